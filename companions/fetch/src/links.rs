// Finding links in a page.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use url::Url;

/// Where the page leads, as whole URLs and in its order: relative ones are relative to `<base>`, else to the page itself.
pub(crate) fn find_links(page: &[u8], url: &Url) -> Vec<String> {
    let mut emitter = DefaultEmitter::default();
    // What looks like a tag in a script is none.
    emitter.naively_switch_states(true);
    let mut base: Option<Url> = None;
    let mut links = Vec::new();
    for token in Tokenizer::new_with_emitter(page, emitter) {
        let Ok(Token::StartTag(tag)) = token else { continue };
        let Some(link) = href(&tag).and_then(|href| base.as_ref().unwrap_or(url).join(&href).ok()) else { continue };
        match &tag.name[..] {
            b"a" | b"area" => links.push(link.into()),
            b"base" if base.is_none() => base = Some(link),
            _ => {}
        }
    }
    links
}

fn href(tag: &StartTag<()>) -> Option<String> {
    let value = tag.attributes.get(&b"href"[..])?;
    Some(String::from_utf8_lossy(value).into_owned())
}
