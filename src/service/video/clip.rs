//! What a clip is, by `ffprobe`.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::tools::{Running, Tools};
use super::turn::Turn;
use crate::error::{Error, Result};
use crate::imageio::BitDepth;

/// Most bytes that are read of what ffprobe says about streams.
const REPORT: u64 = 1 << 24;

/// Most frames of a clip: nine hours at 30 frames a second.
const FRAMES: usize = 1_000_000;

/// Transfer functions of HDR.
const HDR: [&str; 2] = ["smpte2084", "arib-std-b67"];

/// A clip: its first stream of moving pictures.
#[derive(Debug)]
pub struct Clip {
    /// Its file.
    pub path: PathBuf,
    /// Height and width of a frame, upright.
    pub size: (usize, usize),
    /// Bits per channel that its frames are read with.
    pub depth: BitDepth,
    /// Seconds of a tick, as a fraction.
    pub(super) tick: (u32, u32),
    /// The frames' times in ticks.
    pub(super) times: Vec<i64>,
    pub(super) pixel_format: String,
    pub(super) colors: Colors,
    /// Width over height of a pixel, before the turn.
    pub(super) aspect: Option<String>,
    pub(super) turn: Option<Turn>,
    kinds: Vec<String>,
}

/// How colours are coded, by ffmpeg's names; `None` where the clip does not say.
#[derive(Debug, Clone, Default)]
pub(super) struct Colors {
    pub matrix: Option<String>,
    pub range: Option<String>,
    pub primaries: Option<String>,
    pub transfer: Option<String>,
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    #[serde(default)]
    codec_type: String,
    #[serde(default)]
    width: usize,
    #[serde(default)]
    height: usize,
    #[serde(default)]
    pix_fmt: String,
    color_space: Option<String>,
    color_range: Option<String>,
    color_primaries: Option<String>,
    color_transfer: Option<String>,
    sample_aspect_ratio: Option<String>,
    #[serde(default)]
    time_base: String,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize)]
struct SideData {
    displaymatrix: Option<String>,
}

const ENTRIES: &str = "stream=codec_type,width,height,pix_fmt,color_space,color_range,color_primaries,color_transfer,\
                       sample_aspect_ratio,time_base:stream_side_data=displaymatrix";

impl Clip {
    /// The clip at `path`, of frames of at most `max_pixels`.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): no video, damage, larger frames, HDR, or frames without times.
    pub fn read(tools: &Tools, path: &Path, max_pixels: u64) -> Result<Self> {
        let opened = crate::files::open_regular(path);
        opened.map_err(|e| Error::input("cannot be read").with_source(e))?;
        // Capital V: no cover pictures.
        let stream = streams(tools, path, max_pixels, &["-select_streams", "V:0"])?;
        let Some(stream) = stream.into_iter().next() else {
            return Err(Error::input("has no video stream"));
        };
        let kinds = streams(tools, path, max_pixels, &[])?;
        let mut clip = Clip::of(path, stream)?;
        clip.kinds = kinds.into_iter().map(|stream| stream.codec_type).collect();
        let (height, width) = clip.size;
        let pixels = height as u64 * width as u64;
        if pixels == 0 || pixels > max_pixels || height.max(width) > usize::from(u16::MAX) {
            return Err(Error::input(format!(
                "its frames are {width}x{height}, {pixels} pixels; the limit is {max_pixels} pixels (--max-pixels) and 65535 \
                 a side"
            )));
        }
        clip.times = times(tools, path, max_pixels)?;
        Ok(clip)
    }

    fn of(path: &Path, stream: Stream) -> Result<Self> {
        let tick = stream.time_base.split_once('/');
        let tick = tick.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let tick = tick.filter(|(a, b)| *a > 0 && *b > 0);
        let known =
            |name: Option<String>| name.filter(|name| name != "unknown" && name != "reserved");
        let colors = Colors {
            matrix: known(stream.color_space),
            range: known(stream.color_range),
            primaries: known(stream.color_primaries),
            transfer: known(stream.color_transfer),
        };
        if let Some(name) = colors.transfer.as_deref().filter(|name| HDR.contains(name)) {
            return Err(Error::input(format!(
                "a video in HDR ({name}): convert it to SDR (BT.709) first"
            )));
        }
        let matrices = stream.side_data_list.iter();
        let mut matrices = matrices.filter_map(|data| data.displaymatrix.as_deref());
        let turn = matrices.next().and_then(Turn::of);
        let (height, width) = (stream.height, stream.width);
        Ok(Clip {
            path: path.to_owned(),
            size: match turn.is_some_and(Turn::swaps_sides) {
                true => (width, height),
                false => (height, width),
            },
            depth: depth_of(&stream.pix_fmt),
            tick: tick.ok_or_else(|| Error::input("a video without a time base"))?,
            times: Vec::new(),
            pixel_format: stream.pix_fmt,
            colors,
            aspect: stream
                .sample_aspect_ratio
                .filter(|ratio| ratio != "0:1" && ratio != "1:1"),
            turn,
            kinds: Vec::new(),
        })
    }

    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.times.len()
    }

    /// Number of streams of `kind`, as ffprobe names it.
    pub(super) fn streams(&self, kind: &str) -> usize {
        self.kinds.iter().filter(|other| *other == kind).count()
    }
}

/// 8 bits, unless the name of a pixel format says how the bytes of a larger number are ordered.
fn depth_of(pixel_format: &str) -> BitDepth {
    let is_large = pixel_format.ends_with("le") || pixel_format.ends_with("be");
    match is_large {
        true => BitDepth::Sixteen,
        false => BitDepth::Eight,
    }
}

fn streams(tools: &Tools, path: &Path, max_pixels: u64, which: &[&str]) -> Result<Vec<Stream>> {
    let mut probe = tools.ffprobe(path, max_pixels);
    probe
        .args(which)
        .args(["-show_entries", ENTRIES, "-of", "json"]);
    let mut running = Running::start(probe, false, true)?;
    let mut text = String::new();
    let mut output = running.output()?.take(REPORT);
    let read = output.read_to_string(&mut text);
    running
        .finish()
        .map_err(|e| match e.to_string().contains("max pixel") {
            true => e.with_hint("(raise it with --max-pixels)"),
            false => e,
        })?;
    read.map_err(|e| Error::input("ffprobe's report cannot be read").with_source(e))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|e| Error::input("ffprobe's report cannot be read").with_source(e))?;
    Ok(report.streams)
}

/// The times of all frames, in ticks, rising. Frames are decoded for them: packets may hold none, or several.
fn times(tools: &Tools, path: &Path, max_pixels: u64) -> Result<Vec<i64>> {
    let mut probe = tools.ffprobe(path, max_pixels);
    probe.args([
        "-select_streams",
        "V:0",
        "-show_frames",
        "-of",
        "compact=p=0",
    ]);
    probe.args(["-show_entries", "frame=best_effort_timestamp"]);
    let mut running = Running::start(probe, false, true)?;
    let mut times: Vec<i64> = Vec::new();
    for line in BufReader::new(running.output()?).split(b'\n') {
        let line = line.map_err(|e| Error::input("ffprobe ended early").with_source(e))?;
        let line = String::from_utf8_lossy(&line);
        let Some(time) = line.strip_prefix("best_effort_timestamp=") else {
            continue;
        };
        let time = time
            .split('|')
            .next()
            .unwrap_or_default()
            .trim()
            .parse()
            .ok();
        let time = time.filter(|time| times.last().is_none_or(|last| time > last));
        times.push(time.ok_or_else(|| {
            Error::input(format!(
                "frame {} has no time of its own: copy the stream into another container first (`ffmpeg -i CLIP -c copy \
                 COPY.mkv`)",
                times.len() + 1
            ))
        })?);
        if times.len() > FRAMES {
            return Err(Error::input(format!(
                "more than {FRAMES} frames: cut the video into parts"
            )));
        }
    }
    running.finish()?;
    match times.is_empty() {
        true => Err(Error::input("a video without frames")),
        false => Ok(times),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(text: &str) -> Result<Clip> {
        let report: Report = serde_json::from_str(text).unwrap();
        Clip::of(
            Path::new("a.mp4"),
            report.streams.into_iter().next().unwrap(),
        )
    }

    #[test]
    fn what_ffprobe_says_is_read() {
        let text = r#"{"streams":[{"width":64,"height":48,"pix_fmt":"yuv420p10le","color_space":"smpte170m",
            "color_range":"unknown","sample_aspect_ratio":"16:15","time_base":"1/30000","side_data_list":[{},
            {"displaymatrix":"\n00000000: 0 65536 0\n00000001: -65536 0 0\n00000002: 0 0 1073741824\n"}]}]}"#;
        let read = clip(text).unwrap();
        assert_eq!(
            (read.size, read.tick, read.depth),
            ((64, 48), (1, 30000), BitDepth::Sixteen)
        );
        assert_eq!(read.colors.matrix.as_deref(), Some("smpte170m"));
        assert_eq!(
            (read.colors.range, read.aspect.as_deref()),
            (None, Some("16:15"))
        );
        assert!(clip(&text.replace("1/30000", "0/0")).is_err());
        let hdr = text.replace("color_space\":\"smpte170m", "color_transfer\":\"smpte2084");
        assert!(clip(&hdr).unwrap_err().to_string().contains("HDR"));
    }
}
