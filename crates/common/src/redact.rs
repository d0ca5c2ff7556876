//! Blacks out what looks like a secret in a text that leaves the house: private keys, join tokens, passwords in URLs, values of names that
//! tell a secret. It is the second net: nothing secret should be in the text in the first place.
//!
//! What always holds: a text without secrets comes back as it was; a name of a file that holds a secret is none.

/// What stands in a secret's place.
pub const BLACK: &str = "[redacted]";

/// Names whose values are secrets.
const SECRET_NAMES: [&str; 8] = ["password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey"];
/// Endings of names whose values are not, though they name one.
const HARMLESS: [&str; 6] = ["file", "directory", "path", "id", "hash", "tokens"];

/// The text without what looks like a secret.
#[must_use]
pub fn redact(text: &str) -> String {
    let text = private_keys(text);
    let text = words(&text);
    text.split_inclusive('\n').map(values).collect()
}

/// PEM blocks of private keys, also where their line ends are escaped. One that is cut off goes to the end.
fn private_keys(text: &str) -> String {
    const END: &str = "PRIVATE KEY-----";
    let mut rest = text;
    let mut clean = String::with_capacity(text.len());
    while let Some(at) = rest.find("-----BEGIN ") {
        let (before, block) = rest.split_at(at);
        clean.push_str(before);
        let header = block.split_once(END).filter(|(header, _)| header.len() < 40 && !header.contains('\n'));
        let Some((_, body)) = header else {
            clean.push_str("-----BEGIN ");
            rest = block.strip_prefix("-----BEGIN ").unwrap_or_default();
            continue;
        };
        clean.push_str(BLACK);
        rest = body.split_once(END).map_or("", |(_, after)| after);
    }
    clean + rest
}

/// Join tokens, and passwords in URLs.
fn words(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '<' | '>' | '`');
    let mut clean = String::with_capacity(text.len());
    for word in text.split_inclusive(ends) {
        clean.push_str(&url(&token(word)));
    }
    clean
}

fn token(word: &str) -> String {
    let Some(at) = word.find("muster1.") else { return word.to_owned() };
    let (before, token) = word.split_at(at);
    let end = token.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(token.len());
    let (token, after) = token.split_at(end);
    if token.len() < 24 { word.to_owned() } else { format!("{before}{BLACK}{after}") }
}

fn url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, password)) = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) else { return word.to_owned() };
    if password.is_empty() {
        return word.to_owned();
    }
    let rest = rest.strip_prefix(user).and_then(|rest| rest.strip_prefix(':')).and_then(|rest| rest.strip_prefix(password));
    rest.map_or_else(|| word.to_owned(), |rest| format!("{scheme}://{user}:{BLACK}{rest}"))
}

/// `name: value` and `name=value` in one line.
fn values(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find([':', '=']) {
        let (name, after) = rest.split_at(at);
        let (mark, value) = after.split_at(1);
        clean.push_str(name);
        clean.push_str(mark);
        rest = value;
        if !is_secret(name) {
            continue;
        }
        let start = rest.find(|c: char| !(c == ' ' || c == '"' || c == '\'' || c == '\\')).unwrap_or(rest.len());
        let (gap, value) = rest.split_at(start);
        let end = value.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&' | '}' | ')')).unwrap_or(value.len());
        let (secret, after) = value.split_at(end);
        clean.push_str(gap);
        clean.push_str(if is_nothing(secret) { secret } else { BLACK });
        rest = after;
    }
    clean + rest
}

/// What stands for no value, or is one already blacked out.
fn is_nothing(value: &str) -> bool {
    matches!(value, "" | "None" | "null" | "{" | "[" | "Some(") || value.starts_with(BLACK) || value.starts_with('/')
}

/// Whether the last word of what stands before a colon or an equals sign names a secret.
fn is_secret(before: &str) -> bool {
    let name = before.trim_end_matches(|c: char| c == '"' || c == '\'' || c == '\\' || c.is_whitespace());
    let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).map_or(0, |at| at + 1);
    let name: String = name.get(start..).unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.ends_with(secret) || name.contains(secret)) && !HARMLESS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_blacked_out() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n";
        let token = format!("muster1.{}", "aB3_".repeat(20));
        for (text, clean) in [
            (format!("key: |\n{key}after"), format!("key: |\n{BLACK}\nafter")),
            (key.replace('\n', "\\n"), format!("{BLACK}\\n")),
            ("-----BEGIN EC PRIVATE KEY-----\nMIGH".to_owned(), BLACK.to_owned()),
            (format!("join with \"{token}\" now"), format!("join with \"{BLACK}\" now")),
            ("postgres://ada:hunter2@db:5432/x?y=1".to_owned(), format!("postgres://ada:{BLACK}@db:5432/x?y=1")),
            ("host=db password=hunter2 port=1".to_owned(), format!("host=db password={BLACK} port=1")),
            ("{\"secretAccessKey\": \"abc\", \"x\": 1}".to_owned(), format!("{{\"secretAccessKey\": \"{BLACK}\", \"x\": 1}}")),
            ("PGPASSWORD='a b'".to_owned(), format!("PGPASSWORD='{BLACK} b'")),
            ("passphrase: correct-horse".to_owned(), format!("passphrase: {BLACK}")),
        ] {
            assert_eq!(redact(&text), clean, "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "passwordFile: /etc/muster/password\n",
            "store_password_file: Some(\"/etc/x\"),\n",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "at 17:05:12 backup 3f2a91c0: done\nhttps://x.example/a?b=c\n",
            "postgres://ada@db:5432/x",
            "password: None,\n\n",
            "muster1. is how a token begins",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
