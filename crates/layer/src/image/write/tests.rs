use serde_json::{Value, json};

use super::*;
use crate::cli::Status;
use crate::digest::DiffId;

const CONFIG_BYTES: &[u8] =
    br#"{"architecture":"arm64","os":"linux","variant":"v8","rootfs":{"type":"layers","diff_ids":[]}}"#;

fn layer(bytes: &[u8]) -> LayerRecord {
    LayerRecord {
        media_type: Some("application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned()),
        digest: Some(Digest::of(bytes)),
        size: Some(bytes.len() as u64),
        diff_id: Some(DiffId(Digest::of(b"tar"))),
        ..LayerRecord::default()
    }
}

fn image(names: &[&str]) -> ArchiveImage {
    ArchiveImage {
        config: CONFIG_BYTES.to_vec(),
        layers: vec![layer(b"base"), layer(b"top"), layer(b"base")],
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        refs: Vec::new(),
        manifest: None,
    }
}

fn add(archive: &mut ArchiveWriter<Vec<u8>>, bytes: &[u8]) {
    archive.add_blob(Digest::of(bytes), bytes.len() as u64, &mut &*bytes).unwrap();
}

fn write(images: &[ArchiveImage]) -> Vec<u8> {
    let mut archive = ArchiveWriter::new(Vec::new()).unwrap();
    for blob in [b"base".as_slice(), b"top", b"base"] {
        add(&mut archive, blob);
    }
    archive.finish(images).unwrap()
}

/// Reads the archive with the tar crate, which wrote none of it but the headers.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(archive);
    let entries = tar.entries().unwrap();
    let read = |entry: io::Result<tar::Entry<&[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    entries.map(read).collect()
}

fn json_of(files: &[(String, Vec<u8>)], path: &str) -> Value {
    let (_, bytes) = files.iter().find(|(name, _)| name == path).unwrap_or_else(|| panic!("no {path}"));
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn an_archive_is_a_layout_and_what_docker_loads() {
    let archive = write(&[image(&["alpine:edited", "me/a"])]);
    assert_eq!(archive.len() % 512, 0);
    let files = files(&archive);
    let [base, top, config] = [b"base".as_slice(), b"top", CONFIG_BYTES].map(Digest::of);
    let index = json_of(&files, "index.json");
    let manifest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();

    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let [base_path, top_path, config_path, manifest_path] = [base, top, config, manifest].map(|d| blob_path(&d));
    let order = [
        "oci-layout",
        "blobs/",
        "blobs/sha256/",
        &base_path,
        &top_path,
        &config_path,
        &manifest_path,
        "index.json",
        "manifest.json",
    ];
    assert_eq!(names, order);
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("blobs/sha256/") && name.len() > 13) {
        assert_eq!(*name, blob_path(&Digest::of(bytes)));
    }

    let descriptor = |name: &str, tag: &str| {
        json!({
            "mediaType": MANIFEST, "digest": manifest, "size": files[6].1.len(),
            "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag},
            "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"},
        })
    };
    let manifests =
        json!([descriptor("docker.io/library/alpine:edited", "edited"), descriptor("docker.io/me/a:latest", "latest")]);
    assert_eq!(index, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}));

    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let base = json!({"mediaType": gzip, "digest": base, "size": 4});
    let top = json!({"mediaType": gzip, "digest": top, "size": 3});
    let config = json!({"mediaType": CONFIG, "digest": config, "size": CONFIG_BYTES.len()});
    let want = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [base, top, base]});
    assert_eq!(json_of(&files, &manifest_path), want);

    let layers = [&base_path, &top_path, &base_path];
    let want = json!([{"Config": config_path, "RepoTags": ["alpine:edited", "me/a:latest"], "Layers": layers}]);
    assert_eq!(json_of(&files, "manifest.json"), want);
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    assert_eq!(write(&[image(&["a"])]), write(&[image(&["a"])]));
}

#[test]
fn an_image_without_a_name_has_no_annotations() {
    let files = files(&write(&[image(&[])]));
    assert_eq!(json_of(&files, "manifest.json")[0]["RepoTags"], Value::Null);
    let index = json_of(&files, "index.json");
    assert_eq!(
        (index["manifests"].as_array().unwrap().len(), &index["manifests"][0]["annotations"]),
        (1, &Value::Null)
    );
}

#[test]
fn a_manifest_that_is_there_is_kept() {
    let manifest = br#"{ "mediaType":"application/vnd.docker.distribution.manifest.v2+json" }"#.to_vec();
    let image = ArchiveImage { manifest: Some(manifest.clone()), ..image(&["a"]) };
    let files = files(&write(&[image]));
    let descriptor = json_of(&files, "index.json")["manifests"][0].clone();
    assert_eq!(descriptor["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(descriptor["digest"], json!(Digest::of(&manifest)));
    assert!(files.contains(&(blob_path(&Digest::of(&manifest)), manifest)));
}

#[test]
fn a_blob_that_is_not_what_it_is_said_to_be_is_a_failed_check() {
    let mut archive = ArchiveWriter::new(Vec::new()).unwrap();
    for (digest, size, want) in [
        (Digest::of(b"blob"), 5, "size is 4, expected 5"),
        (Digest::of(b"blob"), 3, "size is over 3, expected 3"),
        (Digest::of(b"other"), 4, "digest is sha256:"),
    ] {
        let err = archive.add_blob(digest, size, &mut &b"blob"[..]).unwrap_err();
        assert!(err.to_string().starts_with(want), "{err}");
        assert_eq!(Status::of(&err), Status::Different);
    }
    add(&mut archive, b"blob");
    let err = archive.add_blob(Digest::of(b"blob"), 5, &mut &b""[..]).unwrap_err();
    assert_eq!(err.to_string(), "size is 5, expected 4");
}

#[test]
fn what_is_missing_is_named() {
    let finish = |images: &[ArchiveImage]| {
        let mut archive = ArchiveWriter::new(Vec::new()).unwrap();
        add(&mut archive, b"base");
        archive.finish(images).unwrap_err().to_string()
    };
    assert_eq!(finish(&[image(&[])]), format!("layer {} is not in the archive", Digest::of(b"top")));
    let untyped = LayerRecord { media_type: None, ..layer(b"base") };
    let err = finish(&[ArchiveImage { layers: vec![untyped], ..ArchiveImage::default() }]);
    assert!(err.contains("missing member `mediaType`"), "{err}");
    let named = |names: &[&str]| ArchiveImage { layers: vec![], ..image(names) };
    assert_eq!(finish(&[named(&["a"]), named(&["docker.io/library/a"])]), "`a:latest` stands for two images");
}
