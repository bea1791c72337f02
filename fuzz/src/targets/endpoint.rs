//! Endpoints: what is parsed is shown so that it is parsed again, as the same.

use switchboard::Endpoint;

pub const WORDS: &[&[u8]] = &[
    b"tcp:",
    b"unix:",
    b"systemd:",
    b"@",
    b"\\:",
    b"\\x7f",
    b"\\u{1f600}",
    b"\\\\",
    b":mode=600",
    b"127.0.0.1:80",
    b"[::1]:80",
    b"[fe80::1%2]:80",
];

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Endpoint>() {
        Ok(endpoint) => {
            let shown = endpoint.to_string();
            let is_plain = shown.chars().all(|character| !character.is_control());
            assert!(is_plain, "{shown:?} has control characters");
            assert_eq!(shown.parse().as_ref(), Ok(&endpoint), "{text:?} is shown as {shown:?}");
            let name = text.split_once(':').map(|(_, name)| name).unwrap_or_default();
            assert!(!name.is_empty() && ["tcp", "unix", "systemd"].iter().any(|kind| shown.starts_with(kind)));
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.is_empty() && shown.chars().all(|character| !character.is_control()), "{shown:?}");
        }
    }
}
