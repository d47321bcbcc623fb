//! Which kinds of file system are known to hold a database, and which to damage it.
//!
//! A kind has two names: the one in the list of mounts (`nfs4`, `fuse.sshfs`) and the magic number of `statfs(2)`
//! (`linux/magic.h`). The first is known without touching the path.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))] // other systems tell it otherwise

/// What is known of a kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Run by this machine's kernel alone: its locks hold and its memory is shared.
    Local,
    /// A database gets damaged on it, or can; in words.
    Refused(&'static str),
    /// Neither is known: the facts must show it.
    Unknown,
}

const NFS: &str = "NFS (a network file system)";
const SMB: &str = "SMB (a Windows share)";
const NCP: &str = "NCP (a NetWare share)";
const NINE_P: &str = "9p (a folder shared with WSL or a virtual machine)";
const VIRTIOFS: &str = "virtiofs (a folder shared with a virtual machine)";
const FUSE: &str = "FUSE (a file system run by a program)";
const FUSE_OR_VIRTIOFS: &str = "FUSE or virtiofs (a mounted or shared folder)";
const CONTAINER: &str = "a folder shared with a container's host";
const VIRTUALBOX: &str = "a VirtualBox shared folder";
const VMWARE: &str = "a VMware shared folder";
const PARALLELS: &str = "a Parallels shared folder";

/// By the name in the list of mounts.
pub(super) fn by_name(name: &str) -> Kind {
    Kind::Refused(match name {
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "tmpfs" | "ramfs" | "rootfs" | "zfs" | "f2fs"
        | "bcachefs" | "jfs" | "reiserfs" | "nilfs2" => return Kind::Local,
        "nfs" | "nfs4" => NFS,
        "cifs" | "smb2" | "smb3" | "smbfs" => SMB,
        "ncpfs" => NCP,
        "9p" | "drvfs" => NINE_P,
        "virtiofs" => VIRTIOFS,
        "fuse.grpcfuse" | "fuse.osxfs" | "osxfs" | "grpcfuse" | "fakeowner" => CONTAINER,
        "vboxsf" => VIRTUALBOX,
        "vmhgfs" | "fuse.vmhgfs-fuse" => VMWARE,
        "prl_fs" | "prl_fs_freeze" | "fuse.prl_fsd" => PARALLELS,
        "fuse.glusterfs" | "glusterfs" => "GlusterFS (a network file system)",
        "fuse.sshfs" => "SSHFS (a network file system)",
        // A program writes the blocks (ntfs-3g): when it dies, so does the mount, in mid-commit.
        "fuse" | "fuseblk" => FUSE,
        name if name.starts_with("fuse.") || name.starts_with("fuseblk.") => FUSE,
        "afs" | "auristorfs" => "AFS (a network file system)",
        "ceph" => "Ceph (a network file system)",
        "coda" => "Coda (a network file system)",
        "gpfs" => "GPFS (a cluster file system)",
        "lustre" => "Lustre (a cluster file system)",
        "ocfs2" => "OCFS2 (a cluster file system)",
        "gfs2" => "GFS2 (a cluster file system)",
        "beegfs" => "BeeGFS (a cluster file system)",
        "orangefs" | "pvfs2" => "OrangeFS (a cluster file system)",
        "panfs" => "PanFS (a cluster file system)",
        "cvfs" => "StorNext (a cluster file system)",
        "wekafs" => "WekaFS (a cluster file system)",
        "acfs" => "ACFS (a cluster file system)",
        _ => return Kind::Unknown,
    })
}

/// By the magic number.
pub(super) fn by_magic(magic: u32) -> Kind {
    Kind::Refused(match magic {
        // ext2/3/4, XFS, Btrfs, tmpfs, ramfs, ZFS, F2FS, bcachefs, JFS, ReiserFS, NILFS
        0x0000_EF53 | 0x5846_5342 | 0x9123_683E | 0x0102_1994 | 0x8584_58F6 | 0x2FC1_2FC1 | 0xF2F5_2010
        | 0xCA45_1A4E | 0x3153_464A | 0x5265_4973 | 0x0000_3434 => return Kind::Local,
        0x0000_6969 => NFS,
        0x0000_517B | 0xFE53_4D42 | 0xFF53_4D42 => SMB,
        0x0000_564C => NCP,
        0x0102_1997 => NINE_P,
        0x6573_5546 => FUSE_OR_VIRTIOFS,
        0x6A65_6A63 => CONTAINER,
        0x786F_4256 => VIRTUALBOX,
        0xBACB_ACBC => VMWARE,
        0x7C7C_6673 => PARALLELS,
        0x5346_414F | 0x6B41_4653 => "AFS (a network file system)",
        0x00C3_6400 => "Ceph (a network file system)",
        0x7375_7245 => "Coda (a network file system)",
        0x4750_4653 => "GPFS (a cluster file system)",
        0x0BD0_0BD0 => "Lustre (a cluster file system)",
        0x7461_636F => "OCFS2 (a cluster file system)",
        0x0116_1970 => "GFS2 (a cluster file system)",
        0x1983_0326 => "BeeGFS (a cluster file system)",
        0x2003_0528 => "OrangeFS (a cluster file system)",
        0xAAD7_AAEA => "PanFS (a cluster file system)",
        0xBEEF_DEAD => "StorNext (a cluster file system)",
        0x0131_11A8 => "Ibrix (a cluster file system)",
        0x6163_6673 => "ACFS (a cluster file system)",
        _ => return Kind::Unknown,
    })
}
