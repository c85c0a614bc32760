//! A clip's frames, decoded by ffmpeg into a pipe.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::process::ChildStdout;
use std::sync::{Mutex, PoisonError};

use ndarray::Array3;

use super::clip::Clip;
use super::mux::coding;
use super::tools::{Running, Tools, of_clip};
use crate::error::{Error, Result};
use crate::imageio::{BitDepth, Pixels};

/// The frames of a clip, upright, in RGB. One is held in memory, and those that wait for their worker.
pub struct Frames {
    state: Mutex<State>,
    size: (usize, usize),
    depth: BitDepth,
}

struct State {
    output: BufReader<ChildStdout>,
    _running: Running,
    /// The number of the next frame that comes.
    next: usize,
    /// Frames that were read on the way to later ones.
    waiting: HashMap<usize, Pixels>,
}

impl Frames {
    /// Starts decoding `clip`, whose frames have at most `max_pixels`.
    ///
    /// # Errors
    /// [`Runtime`](crate::error::ErrorKind::Runtime): ffmpeg cannot be run.
    pub fn of(tools: &Tools, clip: &Clip, max_pixels: u64) -> Result<Self> {
        let mut command = tools.ffmpeg();
        command.arg("-noautorotate");
        of_clip(&mut command, &clip.path, max_pixels);
        command.args(["-map", "0:V:0"]).args(tools.passthrough());
        command.arg("-vf").arg(filters(clip));
        command.args([
            "-pix_fmt",
            match clip.depth {
                BitDepth::Eight => "rgb24",
                BitDepth::Sixteen => "rgb48le",
            },
        ]);
        command.args(["-f", "rawvideo", "pipe:1"]);
        let mut running = Running::start(command, false, true)?;
        let output = BufReader::with_capacity(1 << 18, running.output()?);
        Ok(Frames {
            state: Mutex::new(State {
                output,
                _running: running,
                next: 0,
                waiting: HashMap::new(),
            }),
            size: clip.size,
            depth: clip.depth,
        })
    }

    /// Frame number `k`, counted from 0; each is taken once. Frames that `is_wanted` refuses are read and dropped.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): the clip ends early.
    pub fn take(&self, k: usize, is_wanted: impl Fn(usize) -> bool) -> Result<Pixels> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.next <= k {
            let frame = self.read(&mut state.output)?;
            let number = state.next;
            if is_wanted(number) {
                state.waiting.insert(number, frame);
            }
            state.next += 1;
        }
        let frame = state.waiting.remove(&k);
        frame.ok_or_else(|| Error::internal("a frame was taken twice"))
    }

    fn read(&self, output: &mut impl Read) -> Result<Pixels> {
        let (height, width) = self.size;
        let early = |e| Error::input("ffmpeg ended early: the clip is damaged").with_source(e);
        let mut bytes = vec![0; height * width * 3 * self.depth.bytes()];
        output.read_exact(&mut bytes).map_err(early)?;
        let shape = (height, width, 3);
        let pixels = match self.depth {
            BitDepth::Eight => Array3::from_shape_vec(shape, bytes).map(Pixels::U8),
            BitDepth::Sixteen => {
                let values = bytes.as_chunks().0.iter().map(|x| u16::from_le_bytes(*x));
                Array3::from_shape_vec(shape, values.collect()).map(Pixels::U16)
            }
        };
        pixels.map_err(|e| Error::internal("a frame of another size").with_source(e))
    }
}

/// The filters from a decoded frame to an upright one in RGB of the clip's size.
fn filters(clip: &Clip) -> String {
    let (height, width) = clip.size;
    let coding = coding(clip);
    let mut filters: Vec<String> = Vec::new();
    filters.extend(clip.turn.and_then(|turn| turn.upright()).map(str::to_owned));
    let mut scale = format!("scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int");
    if !coding.is_rgb {
        scale += &format!(
            ":in_color_matrix={}:in_range={}",
            coding.matrix, coding.range
        );
    }
    filters.push(scale);
    filters.join(",")
}
