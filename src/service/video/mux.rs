//! A clip's result: restored frames as PNG files, encoded by ffmpeg, with the clip's sound and times.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use super::clip::Clip;
use super::tools::{Running, Tools, file, of_clip};
use super::{has_boxes, matrix};
use crate::config::VideoCodec;
use crate::error::{Error, Result};
use crate::imageio::{BitDepth, Pixels, encode_png};

/// How a video is encoded.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// The codec.
    pub codec: VideoCodec,
    /// Its constant rate factor.
    pub crf: u8,
}

/// Writes a clip's result.
pub struct Muxer<'a> {
    /// The programs.
    pub tools: &'a Tools,
    /// The clip.
    pub clip: &'a Clip,
    /// Height and width of the restored frames, upright.
    pub size: (usize, usize),
    /// How they are encoded.
    pub encoding: Encoding,
    /// The name of the result, whose ending decides about the container.
    pub name: &'a Path,
}

/// How colours are coded in YUV.
pub(super) struct Coding {
    /// ffmpeg's name of the matrix, as its filter `scale` takes it.
    pub matrix: &'static str,
    /// `tv` or `pc`.
    pub range: &'static str,
    /// Whether the clip is in RGB.
    pub is_rgb: bool,
}

/// The coding of `clip`. Without a matrix, BT.601 up to 576 lines and BT.709 above, in both directions.
pub(super) fn coding(clip: &Clip) -> Coding {
    let colors = &clip.colors;
    let is_rgb = ["rgb", "bgr", "gbr"]
        .iter()
        .any(|name| clip.pixel_format.contains(name));
    let matrix = match colors.matrix.as_deref() {
        Some("bt470bg" | "smpte170m") => "smpte170m",
        Some("fcc") => "fcc",
        Some("smpte240m") => "smpte240m",
        Some("bt2020nc" | "bt2020c") => "bt2020",
        None if !is_rgb && clip.size.0.min(clip.size.1) <= 576 => "smpte170m",
        _ => "bt709",
    };
    let is_full = clip.pixel_format.starts_with("yuvj") || colors.range.as_deref() == Some("pc");
    Coding {
        matrix,
        range: if is_full { "pc" } else { "tv" },
        is_rgb,
    }
}

impl Muxer<'_> {
    /// What the result will not have, or have otherwise.
    pub fn lost(&self) -> Vec<String> {
        let clip = self.clip;
        let mut lost = Vec::new();
        if [
            "yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16",
        ]
        .iter()
        .any(|name| clip.pixel_format.contains(name))
        {
            lost.push("transparency".to_owned());
        }
        let mut count = |kind, name: &str, kept: usize| {
            let more = clip.streams(kind).saturating_sub(kept);
            if more > 0 {
                lost.push(format!("{name} ({more})"));
            }
        };
        count("video", "further video streams and cover pictures", 1);
        count(
            "subtitle",
            "subtitles",
            if self.keeps_subtitles() {
                usize::MAX
            } else {
                0
            },
        );
        count("data", "data streams", 0);
        count("attachment", "attachments", 0);
        if let Some(turn) = clip.turn.filter(|_| !self.keeps_turn()) {
            lost.push(match turn.upright() {
                Some(_) => "the rotation flag (the frames are upright)".to_owned(),
                None => "the rotation".to_owned(),
            });
        }
        lost
    }

    /// Subtitles are coded in another way in each family of containers.
    fn keeps_subtitles(&self) -> bool {
        let is_mkv = |path: &Path| super::has_ending(path, &["mkv"]);
        let pair = (&self.clip.path, self.name);
        has_boxes(pair.0) && has_boxes(pair.1) || is_mkv(pair.0) && is_mkv(pair.1)
    }

    fn keeps_turn(&self) -> bool {
        has_boxes(self.name)
    }

    /// Writes one black frame and a second of the sound to `target`: fails now where [`write`](Self::write) would fail
    /// after all frames are restored.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): the container does not take the sound, or this ffmpeg has no such
    /// encoder.
    pub fn try_out(&self, target: &Path, max_pixels: u64) -> Result<()> {
        let black = Pixels::zeros(self.size, BitDepth::Eight);
        let png = encode_png(&black, &Default::default())?;
        let done = self.run(target, Some("1"), max_pixels, |_| Ok(png.clone()), 1);
        done.map_err(|e| {
            Error::option(format!(
                "{} cannot be written: choose another --video-codec, or name it .mkv, which takes every kind of sound",
                self.name.display()
            ))
            .with_source(e)
        })
    }

    /// Writes the video of the frames that `frame` returns as PNG files to `target`.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): ffmpeg's; those of `frame`.
    pub fn write(
        &self,
        target: &Path,
        max_pixels: u64,
        frame: impl Fn(usize) -> Result<Vec<u8>>,
    ) -> Result<()> {
        self.run(target, None, max_pixels, frame, self.clip.frames())
    }

    fn run(
        &self,
        target: &Path,
        seconds: Option<&str>,
        max_pixels: u64,
        frame: impl Fn(usize) -> Result<Vec<u8>>,
        frames: usize,
    ) -> Result<()> {
        let mut running = Running::start(self.command(target, seconds, max_pixels), true, false)?;
        let mut sink = BufWriter::with_capacity(1 << 18, running.input()?);
        let mut feed = || -> std::io::Result<Result<()>> {
            sink.write_all(&self.header(frames))?;
            for (k, time) in self.clip.times.iter().enumerate().take(frames) {
                let png = match frame(k) {
                    Ok(png) => png,
                    Err(error) => return Ok(Err(error)),
                };
                sink.write_all(&(png.len() as u32).to_le_bytes())?;
                sink.write_all(&time.to_le_bytes())?;
                sink.write_all(&png)?;
            }
            sink.flush()?;
            Ok(Ok(()))
        };
        let fed = feed();
        drop(sink);
        if let Ok(Err(error)) = fed {
            return Err(error);
        }
        // What ffmpeg says is better than `broken pipe`.
        running.finish()?;
        fed.map_err(|e| Error::input("ffmpeg ended early").with_source(e))??;
        let failed = |e| Error::input("the video cannot be written").with_source(e);
        let mut written = File::options()
            .read(true)
            .write(true)
            .open(target)
            .map_err(failed)?;
        if let Some(turn) = self.clip.turn.filter(|_| self.keeps_turn()) {
            matrix::write(&mut written, turn)?;
        }
        written.sync_all().map_err(failed)
    }

    /// The header of IVF, the container of the frames on their way: it has the clip's times, to the tick.
    fn header(&self, frames: usize) -> Vec<u8> {
        let (height, width) = self.size;
        let (numerator, denominator) = self.clip.tick;
        let mut header = b"DKIF\0\0\x20\0MPNG".to_vec();
        header.extend((width as u16).to_le_bytes());
        header.extend((height as u16).to_le_bytes());
        for number in [denominator, numerator, frames as u32, 0] {
            header.extend(number.to_le_bytes());
        }
        header
    }

    fn command(&self, target: &Path, seconds: Option<&str>, max_pixels: u64) -> Command {
        let (numerator, denominator) = self.clip.tick;
        let mut command = self.tools.ffmpeg();
        command.args([
            "-y",
            "-protocol_whitelist",
            "file,pipe",
            "-f",
            "ivf",
            "-i",
            "pipe:0",
        ]);
        command.args(seconds.map(|seconds| ["-t", seconds]).into_iter().flatten());
        of_clip(&mut command, &self.clip.path, max_pixels);
        command.args(["-map", "0:v:0", "-map", "1:a?"]);
        if self.keeps_subtitles() {
            command.args(["-map", "1:s?", "-c:s", "copy"]);
        }
        command.args(["-c:a", "copy", "-map_metadata", "1", "-map_chapters", "1"]);
        // Times as they are: not shifted, not rounded to a frame rate.
        command.args(["-copyts"]).args(self.tools.passthrough());
        command.args(["-enc_time_base", &format!("{numerator}:{denominator}")]);
        command.arg("-vf").arg(self.filters());
        self.codec(&mut command);
        self.colors(&mut command);
        // No version of ffmpeg and no random numbers: the same frames give the same file.
        command.args(["-fflags", "+bitexact", "-flags:v", "+bitexact"]);
        if has_boxes(self.name) {
            command.args(["-video_track_timescale", &denominator.to_string()]);
            command.args(["-movflags", "+faststart"]);
        }
        command.args(["-f", self.container()]).arg(file(target));
        command
    }

    fn container(&self) -> &'static str {
        match self.name.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("mov") => "mov",
            Some(ending) if ending.eq_ignore_ascii_case("mkv") => "matroska",
            _ => "mp4",
        }
    }

    /// From a restored frame to what is encoded.
    fn filters(&self) -> String {
        let clip = self.clip;
        let coding = coding(clip);
        let mut filters = Vec::new();
        let turn = clip.turn.filter(|_| self.keeps_turn());
        filters.extend(turn.and_then(|turn| turn.back()).map(str::to_owned));
        filters.push(format!(
            "scale=out_color_matrix={}:out_range={}:flags=bicubic+accurate_rnd+full_chroma_int",
            coding.matrix, coding.range
        ));
        filters.push(format!("format={}", self.pixel_format()));
        if let Some(aspect) = &clip.aspect {
            filters.push(format!("setsar={}", aspect.replace(':', "/")));
        }
        filters.join(",")
    }

    /// The clip's chroma and depth as far as the encoders have them: 4:2:0, 4:2:2 or 4:4:4 in 8 or 10 bits. Odd sides need
    /// 4:4:4.
    fn pixel_format(&self) -> String {
        let has = |names: &[&str]| {
            names
                .iter()
                .any(|name| self.clip.pixel_format.contains(name))
        };
        let (height, width) = self.size;
        let is_odd = height % 2 == 1 || width % 2 == 1;
        let chroma = if coding(self.clip).is_rgb || has(&["444"]) || is_odd {
            "444"
        } else if has(&["422", "yuv440", "p210", "y210"]) {
            "422"
        } else {
            "420"
        };
        let depth = match self.clip.depth {
            BitDepth::Eight => "",
            BitDepth::Sixteen => "10le",
        };
        format!("yuv{chroma}p{depth}")
    }

    fn codec(&self, command: &mut Command) {
        let Encoding { codec, crf } = self.encoding;
        let name = match codec {
            VideoCodec::H264 => "libx264",
            VideoCodec::H265 => "libx265",
        };
        command.args(["-c:v", name]);
        if codec == VideoCodec::H265 {
            command.args(["-x265-params", "log-level=error"]);
        }
        if codec == VideoCodec::H265 && has_boxes(self.name) {
            // The tag that Apple's players ask for.
            command.args(["-tag:v", "hvc1"]);
        }
        command.args(["-crf", &crf.to_string()]);
    }

    /// Says in the result how the colours are coded, as far as the clip does.
    fn colors(&self, command: &mut Command) {
        let colors = &self.clip.colors;
        let coding = coding(self.clip);
        let matrix = match (coding.is_rgb, &colors.matrix) {
            (true, _) => Some("bt709"),
            (false, matrix) => matrix.as_deref(),
        };
        let range = colors.range.as_deref().filter(|_| !coding.is_rgb);
        let range = range.or((coding.range == "pc").then_some("pc"));
        let options = [
            ("-colorspace", matrix),
            ("-color_range", range),
            ("-color_primaries", colors.primaries.as_deref()),
            ("-color_trc", colors.transfer.as_deref()),
        ];
        for (option, value) in options {
            command.args(value.map(|value| [option, value]).into_iter().flatten());
        }
    }
}
