// Finding links in a page.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use url::Url;

/// A link's absolute URL, and its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) url: String,
    pub(crate) text: String,
}

impl Link {
    /// Returns whether its text contains this, ignoring case and the number of blanks.
    pub(crate) fn says(&self, text: &str) -> bool {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        plain(&self.text).contains(&plain(text))
    }
}

/// Returns the links of a page, in order. Relative ones are relative to `<base>`, or else to the page itself.
pub(crate) fn find_links(page: &[u8], url: &Url) -> Vec<Link> {
    let mut emitter = DefaultEmitter::default();
    // What looks like a tag inside a script is not one.
    emitter.naively_switch_states(true);
    let mut base: Option<Url> = None;
    let mut links = Vec::new();
    // Whether the following text belongs to the last link: up to its end, or the next link.
    let mut is_within = false;
    for token in Tokenizer::new_with_emitter(page, emitter) {
        match token {
            Ok(Token::StartTag(tag)) => {
                is_within &= tag.name[..] != b"a"[..];
                let joined = |href: String| base.as_ref().unwrap_or(url).join(&href).ok();
                let Some(link) = attribute(&tag, b"href").and_then(joined) else { continue };
                match &tag.name[..] {
                    b"a" => {
                        is_within = true;
                        links.push(Link { url: link.into(), text: String::new() });
                    }
                    b"area" => {
                        let text = attribute(&tag, b"alt").unwrap_or_default();
                        links.push(Link { url: link.into(), text });
                        is_within = false;
                    }
                    b"base" if base.is_none() => base = Some(link),
                    _ => {}
                }
            }
            Ok(Token::String(text)) if is_within => {
                let last = links.last_mut();
                last.into_iter().for_each(|link: &mut Link| link.text.push_str(&String::from_utf8_lossy(&text)));
            }
            Ok(Token::EndTag(tag)) if tag.name[..] == b"a"[..] => is_within = false,
            _ => {}
        }
    }
    links
}

fn attribute(tag: &StartTag<()>, name: &[u8]) -> Option<String> {
    let value = tag.attributes.get(name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_finds_a_link_by_its_text_and_by_no_other() {
        let page = b"<a name=Documentation>Documentation</a> <a href=one>The <b>Docu</b>men&#116;ation\n of it</a>Documentation
            <a href=two>not that<a href=three>documentation</a>
            <area href=four alt='Documentation'>Documentation<a href=five></a><p>Documentation";
        let links = find_links(page, &Url::parse("http://example.org/").unwrap());
        let found = |text: &str| -> Vec<&str> {
            links.iter().filter(|link| link.says(text)).map(|link| link.url.rsplit('/').next().unwrap()).collect()
        };
        assert_eq!(found("Documentation"), ["one", "three", "four"]);
        assert_eq!(found("DOCUMENTATION  of"), ["one"]);
        assert_eq!(found("not"), ["two"]);
        assert_eq!(found("that documentation"), [""; 0]);
        assert_eq!(links.len(), 5);
    }
}
