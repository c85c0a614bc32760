//! What a child gives up before it looks at a picture: memory, time, files, network and system calls.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use libc::{MAP_ANONYMOUS, PROT_EXEC};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::Order;

/// Limits memory and time. No core file is written, no file grows, and the child ends with its parent.
pub fn limit(order: Order) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for (resource, most) in [
        (Resource::As, order.memory),
        (Resource::Cpu, order.seconds.saturating_add(1)),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
    ] {
        let most = getrlimit(resource)
            .maximum
            .map_or(most, |maximum| maximum.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        rustix::process::setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Gives up files, network and system calls; returns whether landlock is there.
///
/// # Errors
/// There is no seccomp, and why.
pub fn confine() -> Result<bool, String> {
    let landlock = no_files().map_err(|e| format!("landlock: {e}"))?;
    let filter = filter().map_err(|e| format!("seccomp: {e}"))?;
    apply_filter(&filter).map_err(|e| format!("seccomp: {e}"))?;
    Ok(landlock)
}

/// Every right over files, sockets and other processes that the kernel's landlock knows is taken away.
fn no_files() -> Result<bool, RulesetError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?;
    let status = rules.create()?.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// System calls of allocation, locks, time and ending; writing to standard output and standard error. Any other ends the
/// process.
fn filter() -> Result<BpfProgram, BackendError> {
    let pid = u64::from(std::process::id());
    let is = |argument, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let has = |argument, mask: i32, value: i32| {
        let operator = SeccompCmpOp::MaskedEq(mask as u64);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value as u64)
    };
    let not_executable = || has(2, PROT_EXEC, 0);
    let mut rules = BTreeMap::from([
        (
            libc::SYS_write,
            vec![
                SeccompRule::new(vec![is(0, 1)?])?,
                SeccompRule::new(vec![is(0, 2)?])?,
            ],
        ),
        (
            libc::SYS_mmap,
            vec![SeccompRule::new(vec![
                has(3, MAP_ANONYMOUS, MAP_ANONYMOUS)?,
                not_executable()?,
            ])?],
        ),
        (
            libc::SYS_mprotect,
            vec![SeccompRule::new(vec![not_executable()?])?],
        ),
        // To abort. No other process can be meant.
        (libc::SYS_tgkill, vec![SeccompRule::new(vec![is(0, pid)?])?]),
    ]);
    rules.extend(FREE.iter().map(|call| (*call, Vec::new())));
    let arch = TargetArch::try_from(ARCH)?;
    let (rest, these) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, rest, these, arch)?.try_into()
}

/// Calls that are allowed whatever their arguments.
const FREE: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
];
