//! What is signed, and what is not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use rowhouse::ErrorKind;
use rowhouse::stores::device_keys::*;

use crate::fakes::*;

#[test]
fn the_signed_bytes_are_canonical_json_of_domain_and_payload() {
    let place = Place::new();
    let key = create(&place.keys);
    let signed = place.keys.sign(id(&key), &payload()).expect("signed");
    assert_eq!(
        signed.signed,
        format!(
            r#"{{"domain":"{DOMAIN}","payload":{{"account_user_id":"user-1","audience":"{AUDIENCE}","claims":{{"session":"s-1"}},"client_id":"laptop","expires_at":{},"key_id":"{}","nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","target_origin":"{ORIGIN}","target_path":"{PATH}"}}}}"#,
            NOW + 60_000,
            id(&key),
        )
    );
    verify(&key, &signed);
    let json = serde_json::to_value(&signed).expect("JSON");
    assert_eq!(json["algorithm"], "ecdsa_p256_sha256");
    assert_eq!(serde_json::from_value::<SignedPayload>(json).expect("read again"), signed);

    // Another payload, another signature; each is that payload's only.
    let other = SignPayload { nonce: vec![9; 32], ..payload() };
    let other = place.keys.sign(id(&key), &other).expect("signed");
    assert!(key.public_key.verify(signed.signed.as_bytes(), &other.signature).is_err());
}

#[test]
fn a_payload_is_for_an_audience_origin_and_path_of_the_allow_list() {
    let place = Place::new();
    let key = create(&place.keys);
    let sign = |payload: &SignPayload| place.keys.sign(id(&key), payload);
    sign(&payload()).expect("allowed");
    let elsewhere: [fn(&mut SignPayload); 8] = [
        |payload| payload.audience = "other".into(),
        |payload| payload.audience = String::new(),
        |payload| payload.target_origin = "https://example.com".into(),
        |payload| payload.target_origin = "https://EXAMPLE.org".into(),
        |payload| payload.target_origin = "https://example.org/".into(),
        |payload| payload.target_path = "/v1/connect/".into(),
        |payload| payload.target_path = "/v1/../v1/connect".into(),
        |payload| payload.target_path = "x".repeat(1 << 20),
    ];
    for change in elsewhere {
        let mut payload = payload();
        change(&mut payload);
        assert_eq!(kind(sign(&payload)), ErrorKind::Invalid, "{payload:?}");
    }
    // The three belong together: what is allowed for one audience is not for another.
    let two = rules().allow("other", "https://example.com", "/other").expect("good rules");
    let keys = place.keys.clone().rules(two);
    let mixed = SignPayload { audience: "other".to_owned(), ..payload() };
    assert_eq!(kind(keys.sign(id(&key), &mixed)), ErrorKind::Invalid);
    let whole =
        SignPayload { target_origin: "https://example.com".into(), target_path: "/other".into(), ..mixed };
    keys.sign(id(&key), &whole).expect("allowed");

    let nothing = place.keys.clone().rules(SigningRules::new(DOMAIN).expect("a domain"));
    assert_eq!(kind(nothing.sign(id(&key), &payload())), ErrorKind::Invalid);
    let error = place.runtime.device_keys().sign(id(&key), &payload()).expect_err("no rules");
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("rules"), "{error}");
}

#[test]
fn the_binding_must_match_account_and_client() {
    let place = Place::new();
    let key = create(&place.keys);
    for other in [
        SignPayload { account_user_id: "user-2".to_owned(), ..payload() },
        SignPayload { client_id: "phone".to_owned(), ..payload() },
        SignPayload { account_user_id: "laptop".to_owned(), client_id: "user-1".to_owned(), ..payload() },
        SignPayload { account_user_id: String::new(), ..payload() },
    ] {
        assert_eq!(kind(place.keys.sign(id(&key), &other)), ErrorKind::Conflict);
    }
}

#[test]
fn a_nonce_has_32_bytes_or_more() {
    let place = Place::new();
    let key = create(&place.keys);
    for (bytes, good) in
        [(0, false), (31, false), (32, true), (LONGEST_NONCE, true), (LONGEST_NONCE + 1, false)]
    {
        let payload = SignPayload { nonce: vec![7; bytes], ..payload() };
        let signed = place.keys.sign(id(&key), &payload);
        assert_eq!(signed.is_ok(), good, "{bytes} bytes");
        assert!(good || kind(signed) == ErrorKind::Invalid);
    }
}

#[test]
fn a_payload_expires_later_than_now_and_within_15_minutes_by_the_clock_of_the_wall() {
    static CLOCK: AtomicI64 = AtomicI64::new(NOW);
    let place = Place::new();
    let keys = place.keys.clone().clock(|| CLOCK.load(Ordering::Relaxed));
    let key = create(&keys);
    let at = |expires_at: i64| {
        let answer = keys.sign(id(&key), &SignPayload { expires_at, ..payload() });
        answer.map(drop).map_err(|error| error.kind())
    };
    let quarter = 15 * 60 * 1000;
    let refused = Err(ErrorKind::Invalid);
    for (after, expected) in [
        (0, refused),
        (-1, refused),
        (1, Ok(())),
        (quarter, Ok(())),
        (quarter + 1, refused),
        (i64::MIN, refused),
    ] {
        assert_eq!(at(NOW.saturating_add(after)), expected, "{after}");
    }
    assert_eq!(at(i64::MAX), refused);
    assert_eq!(at(0), refused);

    // The clock jumps: what was good is too old, or too far away.
    let given = NOW + 60_000;
    assert_eq!(at(given), Ok(()));
    CLOCK.store(NOW + 60_000, Ordering::Relaxed);
    assert_eq!(at(given), refused);
    CLOCK.store(given - quarter - 1, Ordering::Relaxed);
    assert_eq!(at(given), refused);
    CLOCK.store(given - quarter, Ordering::Relaxed);
    assert_eq!(at(given), Ok(()));
    // And beyond the ends of time. What no reader keeps exactly is not signed there either.
    for end in [i64::MAX, i64::MIN] {
        CLOCK.store(end, Ordering::Relaxed);
        assert_eq!(
            (at(end), at(end.saturating_add(1)), at(end.saturating_sub(1))),
            (refused, refused, refused)
        );
    }
    CLOCK.store(LARGEST_INTEGER - 1, Ordering::Relaxed);
    assert_eq!((at(LARGEST_INTEGER), at(LARGEST_INTEGER + 1)), (Ok(()), refused));
}

#[test]
fn claims_that_have_no_one_form_are_not_signed() {
    let place = Place::new();
    let key = create(&place.keys);
    let deep = (0..200).fold(Claim::Null, |inner, _| Claim::List(vec![inner]));
    for bad in [
        deep,
        Claim::Integer(LARGEST_INTEGER + 1),
        Claim::Text("x".repeat(LONGEST_TEXT)),
        Claim::List(vec![Claim::Null; 100_000]),
    ] {
        let payload = SignPayload { claims: [("bad".to_owned(), bad)].into(), ..payload() };
        assert_eq!(kind(place.keys.sign(id(&key), &payload)), ErrorKind::Invalid);
    }
}

#[test]
fn a_payload_is_read_strictly_and_its_values_are_in_no_error() {
    let json = serde_json::to_string(&payload()).expect("JSON");
    assert_eq!(SignPayload::from_json(json.as_bytes()).expect("a payload"), payload());
    let without = json.replace(r#","claims":{"session":"s-1"}"#, "");
    assert_eq!(SignPayload::from_json(without.as_bytes()).expect("no claims").claims, BTreeMap::new());
    let secret = "secret-value-42";
    for bad in [
        String::new(),
        secret.to_owned(),
        format!("\"{secret}\""),
        format!("{json} {secret}"),
        json.replace(r#""audience":"#, &format!(r#""audience":"x","{secret}":"x","other":"#)),
        json.replace(r#""audience":"#, r#""audience":"twice","audience":"#),
        json.replace(r#""s-1""#, "1.5"),
        json.replace(r#""s-1""#, "9007199254740992"),
        json.replace(r#"{"session":"s-1"}"#, &format!(r#"{{"{secret}":1,"{secret}":2}}"#)),
        json.replace(r#"{"session":"s-1"}"#, &format!(r#"["{secret}"]"#)),
        json.replace(&(NOW + 60_000).to_string(), &format!("\"{secret}\"")),
        json.replace(&(NOW + 60_000).to_string(), "1.8e12"),
        json.replace("AAECAwQ", "secret/"),
        json.replace("Hh8\"", "Hh8=\""),
        "[".repeat(100_000),
    ] {
        assert_ne!(bad, json);
        let error = SignPayload::from_json(bad.as_bytes()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(std::error::Error::source(&error).is_none());
        let texts = format!("{error} {error:?}");
        assert!(!texts.contains("secret"), "{texts}");
    }
}

#[test]
fn rules_that_mean_more_than_they_say_are_refused() {
    for bad in ["", "nul\0", &"x".repeat(LONGEST_NAME + 1)] {
        assert_eq!(kind(SigningRules::new(bad)), ErrorKind::Invalid);
        assert_eq!(kind(rules().allow(bad, ORIGIN, PATH)), ErrorKind::Invalid);
        assert_eq!(kind(rules().allow(AUDIENCE, bad, PATH)), ErrorKind::Invalid);
        assert_eq!(kind(rules().allow(AUDIENCE, ORIGIN, bad)), ErrorKind::Invalid);
    }
    assert_eq!(kind(rules().allow(AUDIENCE, "http://example.org", PATH)), ErrorKind::Invalid);
    assert_eq!(kind(rules().allow(AUDIENCE, "https://*", PATH)), ErrorKind::Invalid);
    assert_eq!(kind(rules().allow(AUDIENCE, ORIGIN, "/a?b")), ErrorKind::Invalid);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the claims: the signature is of what is answered, and that reads as what was given.
    #[test]
    fn what_is_answered_is_what_was_asked_for(
        claims in prop::collection::btree_map(any::<String>(), any::<String>(), 0..5),
        nonce in prop::collection::vec(any::<u8>(), 32..64),
    ) {
        let place = {
            thread_local! { static PLACE: (Place, DeviceKey) = {
                let place = Place::new();
                let key = create(&place.keys);
                (place, key)
            } }
            &PLACE
        };
        place.with(|(place, key)| {
            let claims = claims.into_iter().map(|(key, text)| (key, Claim::Text(text))).collect();
            let given = SignPayload { claims, nonce, ..payload() };
            let signed = place.keys.sign(id(key), &given).expect("signed");
            verify(key, &signed);
            let read: serde_json::Value = serde_json::from_str(&signed.signed).expect("JSON");
            let mut expected = serde_json::to_value(&given).expect("JSON");
            expected["key_id"] = id(key).into();
            prop_assert_eq!(&read["payload"], &expected);
            Ok(())
        })?;
    }
}
