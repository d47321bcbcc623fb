//! Lists of mounts as they are found in the field, and what they mean for a home.

use std::fmt::Write;

use super::*;

/// A line of `mountinfo`: id, parent, place, name, source.
type Line<'a> = (u32, u32, &'a str, &'a str, &'a str);

/// A local disk at `/`, and what follows.
fn mounts(listed: &[Line]) -> Mounts {
    let mut text = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
"
    .to_owned();
    for (id, parent, point, name, source) in listed {
        let id_and_place = format!("{id} {parent} 0:{id} / {point}");
        writeln!(text, "{id_and_place} rw,relatime shared:7 master:1 - {name} {source} rw")
            .expect("a string");
    }
    Mounts::parse(text.as_bytes())
}

/// The name of the file system a path is on, and what is known of it.
fn found<'a>(mounts: &'a Mounts, path: &str) -> (&'a str, Kind) {
    let mount = mounts.of(Path::new(path)).expect("a mount");
    (&mount.name, mount.kind())
}

fn refused(mounts: &Mounts, path: &str) -> bool {
    matches!(found(mounts, path).1, Kind::Refused(_))
}

/// The refusal of a home on the only mount besides the local disk; checks what every refusal must name.
fn refusal_at(point: &str, name: &str, source: &str) -> Error {
    let home = Path::new(point).join("home");
    let search =
        Search { home: &home, mounts: mounts(&[(40, 27, point, name, source)]), helper: RefCell::default() };
    let error = search.veto(&home).expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.path(), Some(&*home));
    assert!(error.message().contains(&format!("{name}, mounted at {point}")), "{error}");
    let advice = error.advice().expect("advice");
    for word in ["--home /", "ROWHOUSE_HOME=/", "PostgreSQL"] {
        assert!(advice.contains(word), "{advice}");
    }
    error
}

/// Every network home is refused by the name in the list of mounts, which names it in the error.
///
/// Scale: the lists of NFS 3 and 4, AFS, Ceph, Lustre and their kin.
/// Control: the local file systems in the same list are accepted; `n1_a_network_home_is_refused_untouched` shows what
/// a plain connection does on a real one.
#[test]
fn n1_network_file_systems_are_refused_by_name() {
    for (name, words) in [
        ("nfs", "NFS"),
        ("nfs4", "NFS"),
        ("afs", "AFS"),
        ("auristorfs", "AFS"),
        ("ceph", "Ceph"),
        ("fuse.ceph", "FUSE"),
        ("lustre", "Lustre"),
        ("gpfs", "GPFS"),
        ("beegfs", "BeeGFS"),
        ("ocfs2", "OCFS2"),
        ("gfs2", "GFS2"),
        ("fuse.sshfs", "SSHFS"),
        ("fuse.s3fs", "FUSE"),
        ("fuse", "FUSE"),
        ("fuseblk", "FUSE"),
    ] {
        let error = refusal_at("/home/user", name, "server:/export");
        assert!(error.message().contains(words), "{error}");
    }
    for name in ["ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs", "bcachefs"] {
        assert_eq!(kinds::by_name(name), Kind::Local, "{name}");
    }
    for name in ["overlay", "aufs", "exfat", "ntfs3", "fusectl", "autofs", "nfsd"] {
        assert_eq!(kinds::by_name(name), Kind::Unknown, "{name}");
    }
}

/// Windows folders in WSL are refused by name, and Linux folders beside them are not.
///
/// Scale: the list of mounts of WSL 2 (9p, virtiofs) and WSL 1 (drvfs).
/// Control: the same list accepts a home on the Linux disk.
#[test]
fn n3_windows_folders_in_wsl_are_refused_by_name() {
    refusal_at("/mnt/c", "9p", r"C:\134");
    refusal_at("/mnt/c", "drvfs", "C:");
    refusal_at("/mnt/c", "virtiofs", "drvfsaC8");
    let wsl = Mounts::parse(
        br"74 80 8:32 / / rw,relatime - ext4 /dev/sdc rw,discard,errors=remount-ro,data=ordered
86 74 0:37 / /usr/lib/wsl/drivers ro,nosuid,nodev,noatime - 9p none ro,dirsync,aname=drivers;fmask=222
109 74 0:60 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\;uid=1000;gid=1000;symlinkroot=/mnt/
110 74 0:61 / /mnt/My\040Disk rw,noatime - 9p D:\134 rw,dirsync,aname=drvfs;path=D:\
",
    );
    assert!(refused(&wsl, "/mnt/c/Users/me/home"));
    assert!(refused(&wsl, "/mnt/My Disk/home"));
    assert_eq!(found(&wsl, "/mnt/computer/home"), ("ext4", Kind::Local));
    assert_eq!(found(&wsl, "/home/me/.local/state/rowhouse").1, Kind::Local);
}

/// What counts is the mount that a path is really on: a shared folder in a local disk is refused, a local disk in a
/// shared folder is not, and a mount that another one hides counts for nothing.
///
/// Scale: lists of Docker Desktop (virtiofs, gRPC FUSE, fakeowner), OrbStack, virtual machines, and made-up nestings.
/// Control: the longest matching place alone, without the tree of mounts, takes a hidden mount for the real one.
#[test]
fn n4_nested_mounts_are_told_apart() {
    let nested = mounts(&[
        (40, 27, "/share", "virtiofs", "share"),
        (41, 40, "/share/disk", "ext4", "/dev/vdb"),
        (42, 41, "/share/disk/inner", "9p", "inner"),
        (43, 42, "/share/disk/inner/ram", "tmpfs", "tmpfs"),
    ]);
    for (path, expected) in [
        ("/home", "ext4"),
        ("/share", "virtiofs"),
        ("/share/home", "virtiofs"),
        ("/share/disk", "ext4"),
        ("/share/disk/home", "ext4"),
        ("/share/diskette", "virtiofs"),
        ("/share/disk/inner/home", "9p"),
        ("/share/disk/inner/ram/home", "tmpfs"),
        ("/shared/home", "ext4"),
    ] {
        assert_eq!(found(&nested, path).0, expected, "{path}");
    }

    // A later mount over the same place hides the earlier one, whichever is the shared folder.
    let over = mounts(&[(40, 27, "/a", "virtiofs", "a"), (41, 40, "/a", "ext4", "/dev/vdb")]);
    assert_eq!(found(&over, "/a/home"), ("ext4", Kind::Local));
    let over = mounts(&[(40, 27, "/a", "ext4", "/dev/vdb"), (41, 40, "/a", "virtiofs", "a")]);
    assert!(refused(&over, "/a/home"));

    // A mount over a folder hides what is mounted below it.
    let lines = [(40, 27, "/a/b", "nfs", "server:/b"), (41, 27, "/a", "ext4", "/dev/vdb")];
    assert_eq!(found(&mounts(&lines), "/a/b/home"), ("ext4", Kind::Local));
    assert_eq!(longest(&lines, "/a/b/home"), "nfs", "the control is none");

    let docker = mounts(&[
        (40, 27, "/work", "fakeowner", "/run/host_mark/Users"),
        (41, 27, "/grpc", "fuse.grpcfuse", "grpcfuse"),
        (42, 27, "/virtio", "virtiofs", "virtiofs0"),
        (43, 27, "/volume", "ext4", "/dev/vda1"),
        (44, 40, "/work/node_modules", "ext4", "/dev/vda1"),
        (45, 27, "/mnt/mac", "virtiofs", "mac"),
        (46, 27, "/vbox", "vboxsf", "share"),
        (47, 27, "/parallels", "prl_fs", "share"),
        (48, 27, "/vmware", "fuse.vmhgfs-fuse", "vmhgfs-fuse"),
        (49, 27, "/layer", "overlay", "overlay"),
    ]);
    for path in
        ["/work/a", "/grpc/a", "/virtio/a", "/mnt/mac/Users/me", "/vbox/a", "/parallels/a", "/vmware/a"]
    {
        assert!(refused(&docker, path), "{path}");
    }
    for path in ["/volume/home", "/work/node_modules/home"] {
        assert_eq!(found(&docker, path).1, Kind::Local, "{path}");
    }
    assert_eq!(found(&docker, "/layer/home").1, Kind::Unknown);
}

/// The control of `n4`: the longest matching place, wherever it is in the tree.
fn longest<'a>(listed: &[Line<'a>], path: &str) -> &'a str {
    let matching = listed.iter().filter(|(_, _, point, ..)| Path::new(path).starts_with(point));
    matching.max_by_key(|(_, _, point, ..)| point.len()).map(|(_, _, _, name, _)| *name).expect("a mount")
}

/// Media servers' shares are refused by name.
///
/// Scale: SMB in its versions, GlusterFS with and without FUSE, NFS.
/// Control: `n9_a_media_share_is_refused` shows two plain connections that both hold the write lock of such a share.
#[test]
fn n9_shares_are_refused_by_name() {
    for (name, words) in [
        ("cifs", "SMB"),
        ("smb3", "SMB"),
        ("smbfs", "SMB"),
        ("fuse.glusterfs", "GlusterFS"),
        ("glusterfs", "GlusterFS"),
        ("fuse.mergerfs", "FUSE"),
        ("fuse.rclone", "FUSE"),
        ("nfs4", "NFS"),
    ] {
        let error = refusal_at("/media", name, "//nas/media");
        assert!(error.message().contains(words), "{error}");
    }
}

#[test]
fn a_line_is_read_whatever_its_optional_fields_and_escapes() {
    let mounts = Mounts::parse(
        b"1 0 0:1 / / rw - ext4 /dev/vda rw
36 1 98:0 /root /a rw,noatime master:1 propagate_from:2 unbindable - nfs server:/a rw
37 1 98:0 / /with\\040blank\\011tab\\012line\\134040 rw - cifs //nas/a\\040b rw
38 1 98:0 / /no-optional rw - 9p
39 1 98:0 / /caf\xc3\xa9\xff rw shared:1 - xfs /dev/vdb rw
not a mount
40 1
",
    );
    assert_eq!(found(&mounts, "/a/b").0, "nfs");
    assert_eq!(found(&mounts, "/with blank\ttab\nline\\040/x").0, "cifs");
    assert_eq!(found(&mounts, "/no-optional").0, "9p");
    let bytes = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"/caf\xc3\xa9\xff/home");
    assert_eq!(mounts.of(Path::new(bytes)).expect("a mount").name, "xfs");
    assert_eq!(found(&mounts, "/").0, "ext4");
}

#[test]
fn a_list_without_a_root_or_with_a_circle_ends() {
    let none = Mounts::default();
    assert_eq!(none.of(Path::new("/home")), None);
    // Inside chroot(2) the mount of the root itself may not be listed.
    let rootless = Mounts::parse(b"50 27 0:1 / /data rw - nfs server:/data rw\n");
    assert_eq!(rootless.of(Path::new("/home")), None);
    assert_eq!(found(&rootless, "/data/home").0, "nfs");
    let circle =
        Mounts::parse(b"1 2 0:1 / / rw - ext4 a rw\n2 1 0:1 / / rw - xfs b rw\n3 3 0:1 / / rw - nfs c rw\n");
    assert_eq!(found(&circle, "/home").0, "nfs");
}

#[test]
fn the_magic_number_tells_what_the_list_does_not() {
    // overlayfs, FAT, a number that is nobody's
    for magic in [0x794C_7630, 0x4D44, 0x1234_5678] {
        assert_eq!(kinds::by_magic(magic), Kind::Unknown, "{magic:x}");
    }
    for magic in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x2FC1_2FC1, 0xF2F5_2010, 0xCA45_1A4E] {
        assert_eq!(kinds::by_magic(magic), Kind::Local, "{magic:x}");
    }
    for (magic, name) in [
        (0x6969, "NFS"),
        (0x517B, "SMB"),
        (0xFE53_4D42, "SMB"),
        (0xFF53_4D42, "SMB"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "FUSE"),
        (0x6A65_6A63, "container"),
        (0x5346_414F, "AFS"),
        (0x00C3_6400, "Ceph"),
        (0x0BD0_0BD0, "Lustre"),
    ] {
        assert!(matches!(kinds::by_magic(magic), Kind::Refused(words) if words.contains(name)), "{name}");
    }
}

#[test]
fn a_home_that_does_not_exist_yet_is_judged_by_the_folder_above() {
    let above = tempfile::tempdir().expect("a folder");
    check(&above.path().join("not/yet/there"), Purpose::Write).expect("a local disk");
    assert_eq!(fs::read_dir(above.path()).expect("a list").count(), 0, "the probe left something");
}

#[test]
fn links_are_followed_before_the_judgement() {
    let root = tempfile::tempdir().expect("a folder");
    let real = root.path().canonicalize().expect("canonical");
    fs::create_dir_all(real.join("a/b")).expect("folders");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, real.join(name)).expect("a link");
    };
    link("a", "relative");
    link(real.join("a").to_str().expect("text"), "absolute");
    link("relative/b/../b", "a/twice");
    link("circle", "circle");
    link("nowhere/at/all", "dangling");
    link("/share/inside", "out");
    for (path, expected) in [
        ("relative/b", "a/b"),
        ("absolute/b/new", "a/b"),
        ("absolute/../a/b", "a/b"),
        ("a/../../none of this name", ""),
        ("dangling", ""),
    ] {
        let home = real.join(path);
        let found = Search::new(&home).nearest_folder().expect(path);
        let expected = if path == "a/../../none of this name" {
            real.parent().expect("above").to_owned()
        } else {
            real.join(expected)
        };
        assert_eq!(found, if path == "dangling" { real.clone() } else { expected }, "{path}");
    }
    let home = real.join("circle/x");
    assert_eq!(check(&home, Purpose::Read).expect_err("a circle").kind(), ErrorKind::Io);

    // A link that leads to a shared folder is refused at the link.
    let home = real.join("out/home");
    let listed = mounts(&[(40, 27, "/share", "virtiofs", "share")]);
    let error = Search { home: &home, mounts: listed, helper: RefCell::default() }.nearest_folder();
    let error = error.expect_err("a shared folder");
    assert!(error.message().contains("mounted at /share"), "{error}");
    assert_eq!(error.path(), Some(&*home));
}

#[test]
fn what_does_not_answer_is_left_behind_and_asked_again_when_it_comes_back() {
    let place = Path::new("/a mount of this test alone");
    let (release, released) = std::sync::mpsc::channel::<()>();
    let limit = Duration::from_millis(20);
    let mut helper = Helper::default();
    assert_eq!(helper.ask(place, limit, || 1).expect("a thread"), Some(1));
    let stuck = move || released.recv().map_or(0, |()| 2);
    assert_eq!(helper.ask(place, limit, stuck).expect("a thread"), None);
    // The second attempt starts nothing.
    let untouched = || unreachable!("a stuck mount is not asked");
    assert_eq!(Helper::default().ask::<()>(place, limit, untouched).expect("no thread"), None);
    assert_eq!(Helper::default().ask(Path::new("/another"), limit * 100, || 3).expect("a thread"), Some(3));
    release.send(()).expect("it waits");
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let back = || Helper::default().ask(place, limit * 100, || 4).expect("a thread") == Some(4);
    assert!(
        (0..10_000).any(|_| back() || never.recv_timeout(Duration::from_millis(1)).is_ok()),
        "it came back"
    );
}

#[test]
fn the_probe_finds_nothing_wrong_with_a_local_disk_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(probe::fault(folder.path()).expect("a file"), None);
    assert_eq!(fs::read_dir(folder.path()).expect("a list").count(), 0);
    assert!(probe::fault(&folder.path().join("missing")).is_err());
}
