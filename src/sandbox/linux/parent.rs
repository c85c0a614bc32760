//! The parent: starts a child, reads its answer with a limit of time, and says what became of a child that has none.

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::answer::{Answer, HEAD, Head, MAGIC, refusal};
use super::{Order, Task};
use crate::error::{Error, Result};
use crate::sandbox::{Apart, COMMAND};

/// The program of this process, even where its file was replaced since.
const PROGRAM: &str = "/proc/self/exe";
/// Address space of the program itself, its stack, and what the system's allocator keeps.
const PROGRAM_BYTES: u64 = 256 << 20;
/// Nanoseconds between two looks at whether the child is still wanted.
const LOOK: i64 = 50_000_000;
/// Bytes that are read of what a dying child says.
const LAST_WORDS: u64 = 4096;

/// Has a child do `task` with `file`, and checks its answer.
///
/// # Errors
/// As [`Apart::read`].
pub fn ask(task: Task, apart: Apart<'_>, file: Option<File>) -> Result<Answer> {
    let order = order(task, apart, file.as_ref())?;
    let (child, pipe) = start(order, file)
        .map_err(|e| Error::option("no process can be started to decode apart").with_source(e))?;
    let mut running = Running {
        child,
        pipe,
        order,
        apart,
        until: Instant::now() + Duration::from_secs(order.seconds),
    };
    running.answer()
}

fn order(task: Task, apart: Apart<'_>, file: Option<&File>) -> Result<Order> {
    let length = file.map_or(Ok(0), |file| file.metadata().map(|data| data.len()));
    let length = length.map_err(|e| Error::input("cannot be read").with_source(e))?;
    let most = apart.options.file_bytes();
    if length > most {
        return Err(Error::input(format!(
            "cannot be read: more than {most} bytes"
        )));
    }
    // Its result is copied once or twice.
    let decoding = apart.options.decoder_bytes() / 2;
    let memory = decoding.saturating_mul(3).saturating_add(length);
    Ok(Order {
        task,
        max_pixels: apart.options.max_pixels,
        profiles: apart.options.profiles,
        damaged: apart.options.damaged,
        length,
        memory: memory.saturating_add(PROGRAM_BYTES),
        seconds: apart.seconds,
    })
}

/// Its standard output and standard error are one pipe: a child that dies without an answer says why in it.
fn start(order: Order, file: Option<File>) -> io::Result<(Child, PipeReader)> {
    let (pipe, answers) = io::pipe()?;
    let mut command = Command::new(PROGRAM);
    command
        .arg0("diffbir")
        .args([COMMAND, &serde_json::to_string(&order)?])
        .env_clear()
        .current_dir("/")
        // Ctrl-C in a terminal is for the parent.
        .process_group(0)
        .stdin(file.map_or_else(Stdio::null, Stdio::from))
        .stdout(answers.try_clone()?)
        .stderr(answers);
    Ok((command.spawn()?, pipe))
}

/// A child, which ends with this.
struct Running<'a> {
    child: Child,
    pipe: PipeReader,
    order: Order,
    apart: Apart<'a>,
    until: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Running<'_> {
    /// Ends the child, unless it has ended, and says how it did.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut start = [0; 8];
        let read = self.read(&mut start)?;
        let (magic, length) = start.split_at(4);
        let length = length.try_into().map(u32::from_le_bytes).unwrap_or(HEAD);
        if read < start.len() || magic != MAGIC {
            return Err(self.dead(&start[..read]));
        }
        if length > HEAD {
            return Err(unusable("too long"));
        }
        let mut head = vec![0; length as usize];
        self.fill(&mut head)?;
        let head = serde_json::from_slice(&head).map_err(|e| unusable("no JSON").with_source(e))?;
        match head {
            Head::Picture(described) => {
                let options = self.apart.options;
                let picture = described.read(options, &mut |bytes| self.fill(bytes))?;
                Ok(Answer::Picture(Box::new(picture)))
            }
            Head::Refused { kind, message } => Err(refusal(&kind, message)),
            Head::Unprotected { why } => Err(Error::option(format!(
                "pictures cannot be decoded apart here ({why})"
            ))),
            head => Ok(Answer::Plain(head)),
        }
    }

    /// Reads as many bytes as there are until the child's end, `bytes` at most.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            self.wait()?;
            match self.pipe.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unusable("cut off").with_source(e)),
            }
        }
        Ok(filled)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.read(bytes)? == bytes.len() {
            true => Ok(()),
            false => Err(self.dead(&[])),
        }
    }

    /// Waits until there is something to read.
    fn wait(&self) -> Result<()> {
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK,
        };
        loop {
            self.apart.cancel.check()?;
            if Instant::now() >= self.until {
                return Err(late(self.order.seconds));
            }
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&look)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(unusable("cut off").with_source(e)),
            }
        }
    }

    /// Why there is no answer. `said` is what has been read of the child's last words.
    fn dead(&mut self, said: &[u8]) -> Error {
        let mut rest = vec![0; LAST_WORDS as usize];
        let read = match self.read(&mut rest) {
            Ok(read) => read,
            Err(error) => return error,
        };
        let said = [said, &rest[..read]].concat();
        match self.end() {
            Ok(status) => self.cause(status, String::from_utf8_lossy(&said).trim()),
            Err(e) => unusable("cut off").with_source(e),
        }
    }

    fn cause(&self, status: ExitStatus, said: &str) -> Error {
        let signal = match status.signal() {
            Some(libc::SIGSYS) => {
                return Error::input(
                    "its decoder made a system call that decoding does not need, such as opening a file or a \
                     connection, and was stopped: the picture is hostile or meets a defect",
                );
            }
            Some(libc::SIGXCPU) => return late(self.order.seconds),
            Some(libc::SIGABRT) if said.contains("memory allocation of") => {
                return Error::input(format!(
                    "its decoder needs more memory than the {} MiB that --max-pixels allows: damaged, or made to take \
                     memory",
                    self.order.memory >> 20
                ));
            }
            Some(signal) => signal,
            None if status.code() == Some(70) => {
                return Error::internal(said.strip_prefix("error: ").unwrap_or(said));
            }
            None => {
                return Error::input(format!(
                    "its decoder ended without a result ({status}): {said}"
                ));
            }
        };
        let name = match signal {
            libc::SIGABRT => "it aborted",
            libc::SIGSEGV | libc::SIGBUS => "invalid memory access",
            libc::SIGILL | libc::SIGFPE => "invalid instruction",
            libc::SIGKILL => "it was killed, as for want of memory",
            _ => "it was stopped",
        };
        let said = match said {
            "" => String::new(),
            said => format!(": {said}"),
        };
        Error::input(format!(
            "its decoder crashed: {name} (signal {signal}){said}"
        ))
    }
}

fn late(seconds: u64) -> Error {
    Error::input(format!(
        "decoding takes more than {seconds} s: damaged, made to take time, or large (raise the limit with \
         --decode-seconds)"
    ))
}

/// A child's answer that no honest one gives.
pub fn unusable(what: &str) -> Error {
    Error::input(format!("the answer of its decoder is unusable: {what}"))
}
