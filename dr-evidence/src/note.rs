//! Signed notes and checkpoints (C2SP `signed-note` and `tlog-checkpoint`): texts that say how long a record was, and who says so.

use std::fmt;

use dr_core::base::Digest;

use crate::{
    b64,
    key::{PublicKey, SecretKey},
};

/// The most bytes and signatures that are read of one note.
const MOST_BYTES: usize = 64 << 10;
const MOST_SIGNATURES: usize = 16;

/// The bytes are no note, or the text no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// They have another form than a signed note.
    #[error("it is no signed note: {0}")]
    Form(&'static str),
    /// The text is no checkpoint.
    #[error("it is no checkpoint: {0}")]
    Checkpoint(&'static str),
}

/// Why a note does not count as signed by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// No signature names the key.
    #[error("the key did not sign it")]
    Missing,
    /// A signature names the key and is not its signature over this text.
    #[error("the signature that names the key is not its signature over this text")]
    Wrong,
}

/// A signature under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key.
    pub name: String,
    /// The id of the key.
    pub id: [u8; 4],
    /// The signature.
    pub signature: Vec<u8>,
}

/// A text with signatures. `Display` writes its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Signs a text that ends with a newline.
    ///
    /// # Errors
    /// [`BadNote::Form`] for a text that no note can have.
    pub fn sign(text: String, keys: &[&SecretKey]) -> Result<Self, BadNote> {
        let signatures = keys.iter().map(|key| NoteSignature {
            name: key.public().name().to_owned(),
            id: key.public().id(),
            signature: key.sign(text.as_bytes()).to_vec(),
        });
        let note = Self { signatures: signatures.collect(), text };
        let same = Self::parse(note.to_string().as_bytes())?;
        if same == note { Ok(note) } else { Err(BadNote::Form("its text does not end where it seems to")) }
    }

    /// Reads a note. Only the bytes that `Display` writes are read.
    ///
    /// # Errors
    /// [`BadNote::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadNote> {
        if bytes.len() > MOST_BYTES {
            return Err(BadNote::Form("it has more than 64 KiB"));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| BadNote::Form("it is no UTF-8"))?;
        if whole.chars().any(|sign| sign < ' ' && sign != '\n') {
            return Err(BadNote::Form("it holds a control character"));
        }
        let (text, lines) = whole.rsplit_once("\n\n").ok_or(BadNote::Form("it has no blank line"))?;
        let lines = lines.strip_suffix('\n').ok_or(BadNote::Form("it does not end with a newline"))?;
        let signatures = lines.split('\n').map(signature).collect::<Option<Vec<_>>>();
        let signatures = signatures.ok_or(BadNote::Form("a line under it is no signature"))?;
        if signatures.len() > MOST_SIGNATURES {
            return Err(BadNote::Form("it has more than 16 signatures"));
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The text that is signed, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, verified or not.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Checks that `key` signed the note. Signatures of other keys are passed over.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn check(&self, key: &PublicKey) -> Result<(), NotSigned> {
        let of_key = |one: &&NoteSignature| one.name == key.name() && one.id == key.id();
        let mut named = self.signatures.iter().filter(of_key).peekable();
        if named.peek().is_none() {
            return Err(NotSigned::Missing);
        }
        let right = named.all(|one| key.verifies(self.text.as_bytes(), &one.signature));
        if right { Ok(()) } else { Err(NotSigned::Wrong) }
    }
}

fn signature(line: &str) -> Option<NoteSignature> {
    let (name, coded) = line.strip_prefix("— ")?.split_once(' ')?;
    let bytes = b64::decode(coded)?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    let named = !name.is_empty() && !name.contains(|sign: char| sign == '+' || sign.is_whitespace());
    let whole = named && !signature.is_empty();
    whole.then(|| NoteSignature { name: name.to_owned(), id: *id, signature: signature.to_vec() })
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for NoteSignature { name, id, signature } in &self.signatures {
            let coded = b64::encode(&[id.as_slice(), signature].concat());
            writeln!(f, "— {name} {coded}")?;
        }
        Ok(())
    }
}

/// How long a record was, and the root of its tree then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which record it is.
    pub origin: String,
    /// How many events it had.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, b64::encode(self.root.bytes()))
    }

    /// Reads the text of a checkpoint. Extension lines are refused: nobody here writes them, and nobody could judge them.
    ///
    /// # Errors
    /// [`BadNote::Checkpoint`].
    pub fn parse(text: &str) -> Result<Self, BadNote> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(BadNote::Checkpoint("it has not the three lines of one"));
        };
        let number = size.parse::<u64>().ok().filter(|number| number.to_string() == size);
        let number = number.ok_or(BadNote::Checkpoint("its second line is no size"))?;
        let root = b64::decode(root).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = root.ok_or(BadNote::Checkpoint("its third line is no root"))?;
        if origin.is_empty() {
            return Err(BadNote::Checkpoint("it names no record"));
        }
        Ok(Self { origin: origin.to_owned(), size: number, root: Digest::new(root) })
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`BadNote`] for an origin that no checkpoint can have.
    pub fn sign(&self, key: &SecretKey) -> Result<Note, BadNote> {
        let text = self.text();
        if Self::parse(&text)? != *self {
            return Err(BadNote::Checkpoint("its origin has several lines"));
        }
        Note::sign(text, &[key])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the documentation of Go's `golang.org/x/mod/sumdb/note`.
    const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const SIGNED: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    /// The example of C2SP `tlog-checkpoint`.
    const SOFA: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn published_note_verifies_and_is_made_again() {
        let note = Note::parse(SIGNED.as_bytes()).unwrap();
        assert_eq!(note.check(&PUBLIC.parse().unwrap()), Ok(()));
        let key = SecretKey::from_text(SECRET).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(Note::sign(note.text().to_owned(), &[&key]).unwrap().to_string(), SIGNED);
    }

    #[test]
    fn published_checkpoint_is_read_and_written() {
        let note = Note::parse(SOFA.as_bytes()).unwrap();
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!((note.to_string().as_str(), checkpoint.text().as_str()), (SOFA, note.text()));
    }

    #[test]
    fn other_key_other_text_and_other_name_do_not_count() {
        let note = Note::parse(SIGNED.as_bytes()).unwrap();
        let other = SecretKey::from_seed("PeterNeumann", &[1; 32]).unwrap();
        assert_eq!(note.check(other.public()), Err(NotSigned::Missing));
        let changed = Note::parse(SIGNED.replace("think", "thank").as_bytes()).unwrap();
        assert_eq!(changed.check(&PUBLIC.parse().unwrap()), Err(NotSigned::Wrong));
        let renamed = Note::parse(SIGNED.replace("— Peter", "— Pater").as_bytes()).unwrap();
        assert_eq!(renamed.check(&PUBLIC.parse().unwrap()), Err(NotSigned::Missing));
    }

    #[test]
    fn every_flipped_bit_of_a_note_is_seen() {
        let key = PUBLIC.parse().unwrap();
        for at in 0..SIGNED.len() * 8 {
            let mut bytes = SIGNED.as_bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            let passes = Note::parse(&bytes).is_ok_and(|note| note.check(&key).is_ok());
            assert!(!passes, "bit {at}");
        }
    }

    #[test]
    fn text_that_is_no_checkpoint_is_refused() {
        let root = b64::encode(&[0; 32]);
        for text in [
            format!("o\n01\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n1\n{root}\nmore\n"),
            format!("\n1\n{root}\n"),
            "o\n1\nAAAA\n".to_owned(),
            "o\n1\n".to_owned(),
            String::new(),
        ] {
            assert!(Checkpoint::parse(&text).is_err(), "{text:?}");
        }
        let key = SecretKey::from_seed("k", &[1; 32]).unwrap();
        let lines = Checkpoint { origin: "a\n5".into(), size: 1, root: Digest::zero() };
        assert!(lines.sign(&key).is_err());
    }
}
