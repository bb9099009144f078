//! Base64 (RFC 4648, section 4), one text per value: padding is required, stray bits are refused.

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads the only text that [`encode`] writes for these bytes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of RFC 4648, section 10.
    #[test]
    fn published_table() {
        let table =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, text) in table {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn second_text_for_the_same_bytes_is_refused() {
        for text in ["Zg", "Zg=", "Zh==", "Zg==\n", " Zg==", "Zm9v_-==", "Z-9v"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
