use std::fs;
use std::path::{Path, PathBuf};

/// Data flows this way; nothing names what comes after it.
const STATIONS: [&str; 15] = [
    "endpoint", "config", "plan", "now", "schedule", "probe", "flights", "record", "meters", "pacer", "spool", "batch",
    "push", "pipeline", "reflect",
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn nothing_upstream_names_anything_downstream() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let place = |name: &str| STATIONS.iter().position(|station| *station == name);
    let mut seen = 0;
    for file in files(&src) {
        let inside = file.strip_prefix(&src).unwrap().with_extension("");
        let station = inside.iter().next().unwrap().to_str().unwrap();
        let Some(here) = place(station) else {
            assert!(["lib", "main"].contains(&station), "{station} has no place in the flow");
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for named in text.split("crate::").skip(1) {
            let name: String = named.chars().take_while(char::is_ascii_lowercase).collect();
            seen += 1;
            assert!(name.is_empty() || place(&name).is_some_and(|there| there <= here), "{station} names {name}");
        }
    }
    assert!(seen > 30);
}
