//! The programs `ffmpeg` and `ffprobe`, and running them.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::files;

/// Most bytes of a program's messages that are kept, the last ones.
const MESSAGES: usize = 4096;

/// The demuxers that may read a clip. Playlists are not among them: they name other files.
const DEMUXERS: &str = "mov,mp4,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,asf,ogg,mxf,dv,nut";

/// `ffmpeg` and `ffprobe`, by absolute paths.
pub struct Tools {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
    /// The option that keeps each frame's timestamp, which was renamed in FFmpeg 5.1.
    passthrough: &'static str,
}

impl Tools {
    /// Finds both in one folder of `PATH`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) with how to install them.
    pub fn find() -> Result<Self> {
        let with_probe = |ffmpeg: PathBuf| {
            let name = format!("ffprobe{}", std::env::consts::EXE_SUFFIX);
            let ffprobe = ffmpeg.with_file_name(name);
            ffprobe.is_file().then_some((ffmpeg, ffprobe))
        };
        let found = files::programs("ffmpeg").find_map(with_probe);
        let (ffmpeg, ffprobe) = found.ok_or_else(|| {
            Error::option(
                "videos are read and written by ffmpeg, and no folder of PATH has ffmpeg and ffprobe: install them (`apt \
                 install ffmpeg`, `dnf install ffmpeg-free`, `brew install ffmpeg`, `winget install ffmpeg`)",
            )
        })?;
        let mut help = Command::new(&ffmpeg);
        help.args(["-hide_banner", "-h", "long"]);
        let help = help
            .stdin(Stdio::null())
            .output()
            .map_err(failed(&ffmpeg))?;
        let is_new = String::from_utf8_lossy(&help.stdout).contains("-fps_mode");
        Ok(Tools {
            ffmpeg,
            ffprobe,
            passthrough: if is_new { "-fps_mode" } else { "-vsync" },
        })
    }

    /// `ffmpeg` that reports errors alone and opens files and pipes alone.
    pub(super) fn ffmpeg(&self) -> Command {
        let mut command = Command::new(&self.ffmpeg);
        command.args(["-hide_banner", "-nostdin", "-v", "error"]);
        command
    }

    /// `ffprobe` of the clip at `path`.
    pub(super) fn ffprobe(&self, path: &Path, max_pixels: u64) -> Command {
        let mut command = Command::new(&self.ffprobe);
        command.args(["-v", "error"]);
        of_clip(&mut command, path, max_pixels);
        command
    }

    /// The option that keeps each frame's timestamp, and its value.
    pub(super) fn passthrough(&self) -> [&'static str; 2] {
        [self.passthrough, "passthrough"]
    }
}

/// Adds the clip at `path` as an input: no network, no playlists, no frames of more than `max_pixels`.
pub(super) fn of_clip(command: &mut Command, path: &Path, max_pixels: u64) {
    let max_pixels = max_pixels.min(i32::MAX as u64).to_string();
    command.args(["-protocol_whitelist", "file,pipe"]);
    command.args(["-format_whitelist", DEMUXERS]);
    command.args(["-max_pixels", &max_pixels]);
    command.arg("-i").arg(file(path));
}

/// A path as ffmpeg takes it: never an option or a protocol.
pub(super) fn file(path: &Path) -> OsString {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// A running program. Dropped, it is killed.
pub(super) struct Running {
    program: PathBuf,
    child: Child,
    messages: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts `command`, whose `input` and `output` are pipes where that is said. Ctrl-C reaches this process alone, which
    /// then ends the program.
    ///
    /// # Errors
    /// [`Runtime`](crate::error::ErrorKind::Runtime).
    pub fn start(mut command: Command, input: bool, output: bool) -> Result<Self> {
        let pipe = |is_one: bool| {
            if is_one {
                Stdio::piped()
            } else {
                Stdio::null()
            }
        };
        command.stdin(pipe(input)).stdout(pipe(output));
        command.stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = PathBuf::from(command.get_program());
        let mut child = command.spawn().map_err(failed(&program))?;
        let stderr = child.stderr.take();
        let messages = stderr.map(|pipe| std::thread::spawn(move || last_of(pipe)));
        Ok(Running {
            program,
            child,
            messages,
        })
    }

    /// Its standard input; closed when dropped.
    pub fn input(&mut self) -> Result<ChildStdin> {
        let input = self.child.stdin.take();
        input.ok_or_else(|| Error::internal("a program without standard input"))
    }

    /// Its standard output.
    pub fn output(&mut self) -> Result<ChildStdout> {
        let output = self.child.stdout.take();
        output.ok_or_else(|| Error::internal("a program without standard output"))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) with its last message, if it fails.
    pub fn finish(mut self) -> Result<()> {
        let status = self.child.wait().map_err(failed(&self.program))?;
        let messages = self.messages.take().map(JoinHandle::join);
        let messages = messages.and_then(Result::ok).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let last = messages.lines().rev().find(|line| !line.trim().is_empty());
        let name = self.program.file_stem().unwrap_or_default();
        Err(Error::input(format!(
            "{} failed: {}",
            name.to_string_lossy(),
            last.unwrap_or("no message")
        )))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last [`MESSAGES`] bytes of `pipe`.
fn last_of(mut pipe: impl Read) -> String {
    let (mut kept, mut part) = (Vec::new(), [0; MESSAGES]);
    while let Ok(length @ 1..) = pipe.read(&mut part) {
        kept.extend_from_slice(&part[..length]);
        let surplus = kept.len().saturating_sub(MESSAGES);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn failed(program: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::runtime(format!("{} cannot be run", program.display())).with_source(e)
}
