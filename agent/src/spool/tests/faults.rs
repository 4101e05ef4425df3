//! What had to go is named, whatever the disk did meanwhile.

use super::*;

#[test]
fn what_had_to_go_from_a_full_disk_is_named_after_a_restart() {
    let disk = SimDisk::default();
    let mut spool = Stored::open(disk.clone(), Boot(1), Limits { bytes: 8000, ..SMALL });
    fill(&mut spool, 8, &[]);
    drop(spool);
    let mut spool = Stored::open(disk.clone(), Boot(2), SMALL);
    disk.set_capacity(disk.bytes());
    let lost = fill(&mut spool, 1, &[]);
    assert!((1..8).contains(&lost), "{lost}");
    drop(spool);
    disk.crash(Keep::Nothing, Keep::Nothing);
    assert_eq!(Stored::open(disk, Boot(3), SMALL).gaps(), [gap(1, 1, lost)]);
}

#[test]
fn what_went_for_its_age_stays_gone_and_named_after_a_restart() {
    let disk = SimDisk::default();
    let mut spool = Stored::open(disk.clone(), Boot(1), ROOMY);
    spool.offer(vec!["old".into()], Vec::new(), Wall::from_secs(1000));
    assert_eq!(spool.offer(vec!["new".into()], Vec::new(), Wall::from_secs(1000 + 86_401)).dropped, 1);
    drop(spool);
    disk.crash(Keep::Nothing, Keep::Nothing);
    let mut spool = Stored::open(disk, Boot(2), ROOMY);
    assert_eq!((spool.gaps(), spool.oldest().unwrap().name), (vec![gap(1, 1, 1)], name(1, 2)));
}
