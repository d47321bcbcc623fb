//! JSON that has one form only: what is signed here is the same bytes wherever it is written.
//!
//! The form is that of RFC 8785 (JCS): no white space, keys sorted by their UTF-16 code units, strings with the escapes of
//! ECMAScript and otherwise literal UTF-8, integers in decimal. The part of RFC 8785 about other numbers is not needed:
//! fractions, exponents, and integers beyond ±(2^53 - 1), which not every reader keeps exactly, are refused, and so are
//! keys that stand twice in one object.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// The largest integer that every JSON reader keeps exactly: 2^53 - 1.
pub const LARGEST_INTEGER: i64 = (1 << 53) - 1;
/// Lists and objects inside one another.
const DEEPEST: usize = 32;
/// The only key of the object that `serde_json` makes of a number when any crate of the build turns on its feature
/// `arbitrary_precision`. Such an object is that number in every build, so that what is signed does not depend on it.
const NUMBER: &str = "$serde_json::private::Number";
/// The longest canonical text, in bytes.
pub const LONGEST_TEXT: usize = 64 << 10;

/// A JSON value that has one canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer of at most [`LARGEST_INTEGER`], either sign.
    Integer(i64),
    /// A string
    Text(String),
    /// An array
    List(Vec<Claim>),
    /// An object
    Object(BTreeMap<String, Claim>),
}

impl Claim {
    /// Its canonical form.
    ///
    /// # Errors
    /// `Invalid` for an integer that is too large, more than 32 levels, or more than [`LONGEST_TEXT`] bytes.
    pub(super) fn canonical(&self) -> Result<String> {
        let mut out = Vec::new();
        self.write(0, &mut out)?;
        String::from_utf8(out).map_err(|_| Error::new(ErrorKind::Invalid, "the payload is not UTF-8"))
    }

    fn write(&self, depth: usize, out: &mut Vec<u8>) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a payload has at most {DEEPEST} levels of lists and objects"),
            ));
        }
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Integer(number) => out.extend_from_slice(exact(*number)?.to_string().as_bytes()),
            Self::Text(text) => string(text, out)?,
            Self::List(list) => {
                out.push(b'[');
                for (at, claim) in list.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    claim.write(depth + 1, out)?;
                }
                out.push(b']');
            }
            Self::Object(object) => {
                // A BTreeMap has them by UTF-8, where what lies beyond U+FFFF comes last.
                let mut entries: Vec<_> = object.iter().collect();
                entries.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
                out.push(b'{');
                for (at, (key, claim)) in entries.into_iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    if key == NUMBER {
                        return Err(Error::new(
                            ErrorKind::Invalid,
                            "a key of a payload is one that readers take for the mark of a number",
                        ));
                    }
                    string(key, out)?;
                    out.push(b':');
                    claim.write(depth + 1, out)?;
                }
                out.push(b'}');
            }
        }
        if out.len() > LONGEST_TEXT { Err(too_long()) } else { Ok(()) }
    }
}

fn exact(number: i64) -> Result<i64> {
    if (-LARGEST_INTEGER..=LARGEST_INTEGER).contains(&number) {
        return Ok(number);
    }
    Err(Error::new(ErrorKind::Invalid, "an integer of a payload is beyond what every reader keeps exactly")
        .advise("write numbers beyond 2^53 - 1 as strings"))
}

/// The escapes of `serde_json` are those of ECMAScript: `\b \t \n \f \r \" \\`, `\u00xx` for other control characters,
/// everything else literal.
fn string(text: &str, out: &mut Vec<u8>) -> Result<()> {
    if text.len() > LONGEST_TEXT {
        return Err(too_long());
    }
    serde_json::to_writer(out, text)
        .map_err(|_| Error::new(ErrorKind::Invalid, "a text of a payload could not be written"))
}

fn too_long() -> Error {
    Error::new(ErrorKind::Invalid, format!("a payload has at most {LONGEST_TEXT} bytes"))
        .advise("sign the hash of what is longer")
}

impl From<&str> for Claim {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Claim {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl Serialize for Claim {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(list) => serializer.collect_seq(list),
            Self::Object(object) => serializer.collect_map(object),
        }
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// The entries of an object, each key once.
pub(super) fn object<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, Claim>, D::Error> {
    match Claim::deserialize(deserializer)? {
        Claim::Object(object) => Ok(object),
        _ => Err(D::Error::custom("an object is needed here")),
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Claim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without fractions")
    }

    fn visit_unit<E>(self) -> std::result::Result<Claim, E> {
        Ok(Claim::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Claim, E> {
        Ok(Claim::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> std::result::Result<Claim, E> {
        exact(number).map(Claim::Integer).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> std::result::Result<Claim, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Claim, E> {
        Ok(Claim::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Claim, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Claim::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Claim, A::Error> {
        let mut object = BTreeMap::new();
        while let Some((key, claim)) = entries.next_entry::<String, Claim>()? {
            if key == NUMBER {
                let alone = object.is_empty() && entries.next_key::<String>()?.is_none();
                return match claim {
                    Claim::Text(digits) if alone => number(&digits),
                    _ => Err(A::Error::custom("the mark of a number is not alone in an object")),
                };
            }
            if object.insert(key, claim).is_some() {
                return Err(A::Error::custom("a key stands twice in an object"));
            }
        }
        Ok(Claim::Object(object))
    }
}

/// An integer as JSON writes it.
fn number<E: serde::de::Error>(digits: &str) -> std::result::Result<Claim, E> {
    match digits.parse::<i64>() {
        Ok(number) if number.to_string() == digits => Reader.visit_i64(number),
        _ => Err(E::custom("a number is no integer, or too large")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> impl Strategy<Value = Claim> {
        // Letters on both sides of the surrogates, where the order by UTF-8 is another one.
        let text = prop_oneof![
            any::<String>(),
            "[\\u{0}-\\u{ff}\\u{d7f0}-\\u{d7ff}\\u{e000}-\\u{e00f}\\u{fff0}-\\u{ffff}\\u{10000}-\\u{1000f}]{0,6}"
        ];
        let leaf = prop_oneof![
            Just(Claim::Null),
            any::<bool>().prop_map(Claim::Bool),
            (-LARGEST_INTEGER..=LARGEST_INTEGER).prop_map(Claim::Integer),
            text.clone().prop_map(Claim::Text),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Claim::List),
                prop::collection::btree_map(text.clone(), inner, 0..6).prop_map(Claim::Object),
            ]
        })
    }

    /// Takes the white space away that no string holds, and looks at the order of the keys.
    fn keys_in_order(value: &serde_json::value::RawValue) -> bool {
        let text = value.get();
        assert_eq!(text.trim(), text);
        let Ok(entries) = serde_json::from_str::<Entries>(text) else { return true };
        let sorted = entries.0.is_sorted_by(|(one, _), (other, _)| {
            one.encode_utf16().collect::<Vec<_>>() < other.encode_utf16().collect::<Vec<_>>()
        });
        sorted && entries.0.iter().all(|(_, value)| keys_in_order(value))
    }

    /// An object's entries in the order of the text.
    struct Entries(Vec<(String, Box<serde_json::value::RawValue>)>);

    impl<'de> Deserialize<'de> for Entries {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
            struct InOrder;
            impl<'de> Visitor<'de> for InOrder {
                type Value = Entries;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
                    let mut entries = Vec::new();
                    while let Some(entry) = map.next_entry()? {
                        entries.push(entry);
                    }
                    Ok(Entries(entries))
                }
            }
            deserializer.deserialize_map(InOrder)
        }
    }

    proptest! {
        #[test]
        fn what_is_read_again_is_the_same_and_is_written_the_same(claim in claim()) {
            let text = claim.canonical().expect("a form");
            let again: Claim = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(&again, &claim);
            prop_assert_eq!(again.canonical().expect("a form"), text.clone());
            // Written in another order and with white space, it is the same.
            let spaced = serde_json::to_string_pretty(&claim).expect("JSON");
            let again: Claim = serde_json::from_str(&spaced).expect("JSON");
            prop_assert_eq!(again.canonical().expect("a form"), text.clone());
            prop_assert!(keys_in_order(serde_json::from_str(&text).expect("JSON")));
        }
    }

    /// RFC 8785, 3.2.3 and 3.2.2.2.
    #[test]
    fn keys_and_strings_are_written_as_the_standard_shows() {
        let given = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
            "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let claim: Claim = serde_json::from_str(given).expect("JSON");
        assert_eq!(
            claim.canonical().expect("a form"),
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
             \"\u{f6}\":\"Latin Small Letter O With Diaeresis\",\"\u{20ac}\":\"Euro Sign\",\
             \"\u{1f600}\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
        );
        let given = "{ \"string\": \"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\", \"literals\": [null, true, false] }";
        let claim: Claim = serde_json::from_str(given).expect("JSON");
        assert_eq!(
            claim.canonical().expect("a form"),
            "{\"literals\":[null,true,false],\"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    /// As `serde_json` gives numbers with its feature `arbitrary_precision`, whether this build has it or not.
    #[test]
    fn a_number_that_is_given_by_its_digits_is_that_number() {
        use serde::de::value::{Error as Refused, MapDeserializer};
        let read = |entries: &[(&str, &str)]| {
            Claim::deserialize(MapDeserializer::<_, Refused>::new(entries.iter().copied()))
        };
        for (digits, number) in [("0", 0), ("-7", -7), ("9007199254740991", LARGEST_INTEGER)] {
            assert_eq!(read(&[(NUMBER, digits)]).expect("an integer"), Claim::Integer(number));
            let text = format!(r#"[{digits},{{"{NUMBER}":"{digits}"}}]"#);
            let both: Claim = serde_json::from_str(&text).expect("JSON");
            assert_eq!(both, Claim::List(vec![Claim::Integer(number); 2]));
            assert_eq!(both.canonical().expect("a form"), format!("[{digits},{digits}]"));
        }
        for digits in ["1.5", "1e3", "-0", "-0.0", "+1", "01", "", "9007199254740992", "18446744073709551616"]
        {
            assert!(read(&[(NUMBER, digits)]).is_err(), "{digits}");
        }
        assert!(read(&[(NUMBER, "1"), ("a", "b")]).is_err() && read(&[("a", "b"), (NUMBER, "1")]).is_err());
        assert!(serde_json::from_str::<Claim>(&format!(r#"{{"{NUMBER}":1}}"#)).is_err());
        let object = Claim::Object([(NUMBER.to_owned(), "1".into())].into());
        assert_eq!(object.canonical().expect_err("would be read as 1").kind(), ErrorKind::Invalid);
    }

    #[test]
    fn what_has_no_one_form_is_refused() {
        for bad in [
            "1.5",
            "1e3",
            "-0.0",
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551616",
            r#"{"a":1,"a":1}"#,
            r#"[{"\u0061":1,"a":2}]"#,
            r#""\ud800""#,
        ] {
            assert!(serde_json::from_str::<Claim>(bad).is_err(), "{bad}");
        }
        let refused = |claim: &Claim| claim.canonical().expect_err("refused").kind();
        assert_eq!(refused(&Claim::Integer(LARGEST_INTEGER + 1)), ErrorKind::Invalid);
        assert_eq!(refused(&Claim::Integer(i64::MIN)), ErrorKind::Invalid);
        assert_eq!(refused(&Claim::Text("x".repeat(LONGEST_TEXT))), ErrorKind::Invalid);
        let deep = (0..100).fold(Claim::Null, |inner, _| Claim::List(vec![inner]));
        assert_eq!(refused(&deep), ErrorKind::Invalid);
        let wide = Claim::List(vec![Claim::Null; 100_000]);
        assert_eq!(refused(&wide), ErrorKind::Invalid);
    }
}
