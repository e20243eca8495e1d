//! The rules of `docker commit -c`, checked against what a daemon did.

mod effects;
mod refusals;

use serde_json::{Value, json};

use super::*;
use crate::digest::Digest;

const PLAIN: &str = r#"{"User":"","Env":["PATH=/bin","A=1"],"Cmd":["sh"],"Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{}}"#;
const FULL: &str = r#"{"User":"u","ExposedPorts":{"1/tcp":{}},"Env":["PATH=/bin","A=1","EMPTY="],"Cmd":["c"],"Healthcheck":{"Test":["CMD","h"],"Interval":5000000000,"Retries":3},"Volumes":{"/v":{}},"WorkingDir":"/w","Entrypoint":["/e"],"OnBuild":["RUN x"],"Labels":{"old":"1"},"StopSignal":"SIGINT"}"#;
const SHELL: &str = r#"{"User":"","Env":["PATH=/bin"],"Cmd":["sh"],"Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},"Shell":["/bin/ash","-x","-c"]}"#;

/// Applies instructions to a config and returns the members that changed.
fn changed(config: &str, instructions: &str) -> Result<Value> {
    let before: Value = serde_json::from_str(config)?;
    let image = serde_json::from_str(config)?;
    let after = serde_json::to_value(apply::apply(&image, &Instruction::parse(instructions)?)?)?;
    let members = after.as_object().cloned().unwrap_or_default();
    Ok(members.into_iter().filter(|(name, value)| before.get(name).unwrap_or(&Value::Null) != value).collect())
}

#[test]
fn instructions_do_what_docker_commit_does() {
    for &(config, instructions, want) in effects::EFFECTS {
        let want: Value = serde_json::from_str(want).unwrap();
        match changed(config, instructions) {
            Ok(got) => assert_eq!(got, want, "{instructions:?} on {config}"),
            Err(err) => panic!("{instructions:?} on {config}: {err:#}"),
        }
    }
}

#[test]
fn what_docker_commit_refuses_is_refused_with_the_reason() {
    for &(instructions, want) in refusals::REFUSALS {
        match changed(FULL, instructions) {
            Ok(got) => panic!("{instructions:?} gives {got}"),
            Err(err) => assert!(format!("{err:#}").contains(want), "{instructions:?}: {err:#}"),
        }
    }
}

/// Where versions of Docker disagree, or do what nobody can mean.
#[test]
fn what_docker_leaves_open_is_settled() {
    for (instructions, want) in [
        // Docker 20.10 refuses it in a commit, for no reason that it gives.
        ("STOPSIGNAL SIGTERM", json!({"StopSignal": "SIGTERM"})),
        ("STOPSIGNAL 9", json!({"StopSignal": "9"})),
        ("STOPSIGNAL RTMIN+3", json!({"StopSignal": "RTMIN+3"})),
        ("ENV S=usr1\nSTOPSIGNAL $S", json!({"Env": ["PATH=/bin", "A=1", "EMPTY=", "S=usr1"], "StopSignal": "usr1"})),
        // Docker 25 has it.
        (
            "HEALTHCHECK --start-interval=2s CMD x",
            json!({"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 5_000_000_000_u64, "Retries": 3, "StartInterval": 2_000_000_000_u64}}),
        ),
        // BuildKit has the forms without a colon: set to nothing is set.
        ("LABEL a=${EMPTY-d}${NO-e}${EMPTY+f}${NO+g}", json!({"Labels": {"old": "1", "a": "ef"}})),
        ("USER \u{e9}$A", json!({"User": "\u{e9}1"})),
        (
            "HEALTHCHECK --interval=2000\u{b5}s NONE",
            json!({"Healthcheck": {"Test": ["NONE"], "Interval": 5_000_000_000_u64, "Retries": 3}}),
        ),
    ] {
        assert_eq!(changed(FULL, instructions).unwrap(), want, "{instructions:?}");
    }
    for (instructions, want) in [
        (r#"CMD ["a"] x"#, "CMD: `x` stands behind the JSON array"),
        ("EXPOSE 80/tcp/x", "EXPOSE: `80/tcp/x` has the protocol `tcp/x`"),
        ("EXPOSE 1-2-3", "EXPOSE: `1-2-3` is not a port"),
        ("STOPSIGNAL TERMINATE", "STOPSIGNAL: `TERMINATE` is not a signal"),
        ("STOPSIGNAL 65", "STOPSIGNAL: `65` is not a signal"),
        ("STOPSIGNAL", "STOPSIGNAL: needs a signal"),
        ("# escape=`\nENV A=1", "escape directive ```"),
        ("\\", "`` is not taken"),
        ("ENV A=${A", "`}` is missing"),
        (&format!("ENV A={}x{}", "${NO:-".repeat(100), "}".repeat(100)), "nest more than 64 deep"),
    ] {
        let err = format!("{:#}", changed(FULL, instructions).unwrap_err());
        assert!(err.contains(want), "{instructions:?}: {err}");
    }
}

#[test]
fn a_member_of_the_wrong_type_is_named() {
    let err = format!("{:#}", changed(r#"{"Env":"A=1"}"#, "ENV A=2").unwrap_err());
    assert!(err.starts_with("member `Env` of the configuration: "), "{err}");
}

fn layer(name: &str) -> DiffId {
    DiffId(Digest::of(name.as_bytes()))
}

fn commit(diff_id: Option<DiffId>) -> Commit {
    Commit { created: Time { secs: 1_700_000_000, nanos: 0 }, diff_id, ..Commit::default() }
}

#[test]
fn a_child_has_one_layer_and_one_history_entry_more_and_keeps_what_is_unknown() {
    let (base, top) = (layer("base"), layer("top"));
    let parent = format!(
        r#"{{"z":1.50e3,"os":"linux","architecture":"arm64","variant":"v8","author":"old","comment":"old","container":"c","container_config":{{}},"docker_version":"1",
            "config":{{"X":[ 1 ],"Cmd":["sh"]}},"created":"1970-01-01T00:00:00Z","history":[{{"created":"x", "y":2}},{{"empty_layer":true}}],"rootfs":{{"type":"layers","diff_ids":["{base}"]}}}}"#
    );
    let change = Commit {
        author: Some("me".into()),
        comment: Some("edit".into()),
        created_by: Some("sh".into()),
        instructions: Instruction::parse("USER bob").unwrap(),
        ..commit(Some(top))
    };
    let want = format!(
        r#"{{"architecture":"arm64","author":"me","comment":"edit","config":{{"Cmd":["sh"],"User":"bob","X":[ 1 ]}},"created":"2023-11-14T22:13:20Z","history":[{{"created":"x", "y":2}},{{"empty_layer":true}},{{"created":"2023-11-14T22:13:20Z","author":"me","created_by":"sh","comment":"edit"}}],"os":"linux","rootfs":{{"type":"layers","diff_ids":["{base}","{top}"]}},"variant":"v8","z":1.50e3}}"#
    );
    assert_eq!(String::from_utf8(child_config(parent.as_bytes(), &change).unwrap()).unwrap(), want);
}

#[test]
fn a_change_without_a_layer_is_an_empty_entry() {
    let parent = r#"{"rootfs":{"type":"layers","diff_ids":null}}"#;
    let child: Value = serde_json::from_slice(&child_config(parent.as_bytes(), &commit(None)).unwrap()).unwrap();
    assert_eq!(child["rootfs"]["diff_ids"], json!([]));
    assert_eq!(child["history"], json!([{"created": "2023-11-14T22:13:20Z", "empty_layer": true}]));
    assert_eq!(child["config"], json!({}));
}

#[test]
fn history_may_be_shorter_than_the_layers_but_not_longer() {
    let parent = |history: &str| {
        let layer = layer("base");
        format!(r#"{{"history":{history},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#)
    };
    for history in ["[]", "null", "[{}]", r#"[{},{"empty_layer":true}]"#] {
        assert!(child_config(parent(history).as_bytes(), &commit(Some(layer("top")))).is_ok(), "{history}");
    }
    let err = child_config(parent("[{},{}]").as_bytes(), &commit(None)).unwrap_err();
    assert_eq!(err.to_string(), "history names 2 layers, expected at most the 1 of rootfs");
}

#[test]
fn what_is_no_configuration_is_refused() {
    for (parent, want) in [
        ("", "not an image configuration: EOF"),
        ("[]", "not an image configuration: invalid type"),
        ("{}", "missing member `rootfs`"),
        (r#"{"rootfs":{"type":"layers+base"}}"#, "rootfs has the type `layers+base`"),
        (r#"{"rootfs":{"type":"layers","diff_ids":["md5:1"]}}"#, "not a digest"),
        (r#"{"rootfs":{"type":"layers"},"config":[]}"#, "member `config` of the configuration"),
        (r#"{"rootfs":{"type":"layers"},"history":{}}"#, "member `history` of the configuration"),
    ] {
        let err = format!("{:#}", child_config(parent.as_bytes(), &commit(None)).unwrap_err());
        assert!(err.contains(want), "{parent}: {err}");
    }
}

/// The members and their values are those of `docker import`, 20.10.24, without the container and version.
#[test]
fn an_import_is_a_child_of_nothing() {
    let platform = "linux/arm/v7".parse().unwrap();
    let change = Commit {
        comment: Some("Imported from -".into()),
        instructions: Instruction::parse("CMD []\nENTRYPOINT []\nENV B=$PATH\nWORKDIR x\nUSER \"\"").unwrap(),
        ..commit(Some(layer("base")))
    };
    let config: Value = serde_json::from_slice(&import_config(&platform, &change).unwrap()).unwrap();
    let want = json!({
        "architecture": "arm", "variant": "v7", "os": "linux", "comment": "Imported from -", "created": "2023-11-14T22:13:20Z",
        "config": {"Env": ["B="], "WorkingDir": "/x"},
        "history": [{"created": "2023-11-14T22:13:20Z", "comment": "Imported from -"}],
        "rootfs": {"type": "layers", "diff_ids": [layer("base").to_string()]},
    });
    assert_eq!(config, want);
}
