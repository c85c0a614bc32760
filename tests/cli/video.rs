//! Videos through the ffmpeg of the machine; without one these tests say SKIPPED.

use std::process::Command;

use crate::program::{Program, Run, kill, tiny};
use crate::write;

/// Whether there are ffmpeg and ffprobe.
fn has_ffmpeg() -> bool {
    let runs = |name| Command::new(name).arg("-version").output().is_ok();
    let there = runs("ffmpeg") && runs("ffprobe");
    if !there {
        println!("SKIPPED (no ffmpeg)");
    }
    there
}

/// Runs a program in the working folder; what it prints.
#[track_caller]
fn output(program: &Program, name: &str, args: &[&str]) -> String {
    let mut command = Command::new(name);
    let output = command
        .args(["-v", "error"])
        .args(args)
        .current_dir(program.dir());
    let output = output.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How long the clips are; restoring a frame takes half a second of CPU time.
fn seconds() -> String {
    std::env::var("DIFFBIR_VIDEO_SECONDS").unwrap_or_else(|_| "0.2".to_owned())
}

/// Clips, each with what is special about it.
const CLIPS: [&str; 5] = [
    "ntsc.mp4",
    "variable.mp4",
    "turned.mp4",
    "bt601.mkv",
    "deep.mp4",
];

/// Makes one of [`CLIPS`], of 24x16 pixels.
fn make(program: &Program, name: &str, seconds: &str) {
    let source = |rate: &str| format!("testsrc2=size=24x16:rate={rate}:duration={seconds}");
    let sound = format!("sine=frequency=440:duration={seconds}");
    let ntsc = source("30000/1001");
    let film = source("25");
    let bt601 = [
        "-vf",
        "scale=out_color_matrix=bt601:out_range=tv",
        "-colorspace",
        "smpte170m",
        "-color_primaries",
        "smpte170m",
        "-color_trc",
        "smpte170m",
        "-color_range",
        "tv",
    ];
    let variable = [
        "-vf",
        "settb=1/90000,setpts='PTS+1170*mod(N,3)'",
        "-vsync",
        "passthrough",
        "-enc_time_base",
        "1:90000",
        "-video_track_timescale",
        "90000",
    ];
    let (video, more, format): (_, &[&str], _) = match name {
        "variable.mp4" => (&film, &variable, "yuv420p"),
        "bt601.mkv" => (&film, &bt601, "yuv422p"),
        "deep.mp4" => (&film, &["-vf", "setsar=16/15"], "yuv420p10le"),
        _ => (&ntsc, &[], "yuv420p"),
    };
    let inputs = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", &sound];
    let coded = ["-c:v", "libx264", "-pix_fmt", format, "-c:a", "aac"];
    output(
        program,
        "ffmpeg",
        &[&inputs[..], &coded, more, &[name]].concat(),
    );
    if name == "turned.mp4" {
        std::fs::rename(program.dir().join(name), program.dir().join("flat.mp4")).unwrap();
        // The matrix of a quarter turn in place of the first track's.
        let mut bytes = program.read("flat.mp4");
        let unit = [1_i32 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]
            .map(i32::to_be_bytes)
            .concat();
        let turn =
            [0_i32, -(1 << 16), 0, 1 << 16, 0, 0, 0, 24 << 16, 1 << 30].map(i32::to_be_bytes);
        let header = bytes.windows(4).position(|four| four == b"tkhd").unwrap();
        let at = header + bytes[header..].windows(36).position(|x| x == unit).unwrap();
        bytes[at..at + 36].copy_from_slice(&turn.concat());
        std::fs::write(program.dir().join(name), bytes).unwrap();
    }
}

/// What ffprobe says of a file: the frames' times; the sound's packets with their times and contents; the rest.
fn facts(program: &Program, name: &str) -> (Vec<String>, Vec<String>, String) {
    let lines = |stream: &str, entries: &str| {
        let args = [
            "-select_streams",
            stream,
            "-show_data_hash",
            "md5",
            "-show_entries",
            entries,
        ];
        let text = output(
            program,
            "ffprobe",
            &[&args[..], &["-of", "compact=p=0", name]].concat(),
        );
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.retain(|line| !line.is_empty());
        lines
    };
    let mut times = lines("V:0", "packet=pts_time");
    times.sort();
    let stream = "stream=pix_fmt,color_range,color_space,color_transfer,color_primaries,sample_aspect_ratio,time_base:\
                  stream_side_data=displaymatrix";
    (
        times,
        lines("a", "packet=pts_time,duration_time,size,data_hash"),
        lines("V:0", stream)
            .join(" ")
            .replace("ratio=N/A", "ratio=1:1"),
    )
}

fn restore(program: &Program, name: &str, out: &str) -> Run {
    let args = ["restore", name, "-o", out, "--steps", "2", "--upscale", "2"];
    program.tiny_bundle(&args)
}

#[test]
fn frames_times_sound_turn_and_colours_stay() {
    if !has_ffmpeg() {
        return;
    }
    let program = Program::new();
    for name in CLIPS {
        make(&program, name, &seconds());
        let out = format!("out_{name}");
        let run = restore(&program, name, &out);
        run.code(0);
        run.says(&["frames, 48x32"].map(|said| if name == "turned.mp4" { "32x48" } else { said }));
        let (times, sound, rest) = facts(&program, name);
        let (new_times, new_sound, new_rest) = facts(&program, &out);
        assert!(
            times.len() > 4 && sound.len() > 4,
            "{name}: {times:?} {sound:?}"
        );
        assert_eq!(
            (new_times, new_sound, new_rest),
            (times, sound, rest),
            "{name}"
        );
        assert!(!program.dir().join(format!("{out}.frames")).exists());
    }
    let (_, _, turned) = facts(&program, "out_turned.mp4");
    assert!(turned.contains("-65536"), "{turned}");
}

/// A picture's pixels; of a video its first frame, by ffmpeg with this matrix.
fn pixels(program: &Program, name: &str, matrix: &str) -> Vec<f64> {
    let filter = format!("scale=in_color_matrix={matrix}:in_range=tv,format=rgb24");
    let args = [
        "-i",
        name,
        "-vf",
        &filter,
        "-frames:v",
        "1",
        "-y",
        "frame.png",
    ];
    let path = match name.ends_with(".mp4") {
        true => {
            output(program, "ffmpeg", &args);
            "frame.png"
        }
        false => name,
    };
    let picture = image::open(program.dir().join(path)).unwrap().to_rgb8();
    picture.iter().map(|&value| value.into()).collect()
}

fn mean_difference(one: &[f64], two: &[f64]) -> f64 {
    assert_eq!(one.len(), two.len());
    one.iter().zip(two).map(|(a, b)| (a - b).abs()).sum::<f64>() / one.len() as f64
}

#[test]
fn colours_go_in_and_come_out_by_the_clips_matrix() {
    if !has_ffmpeg() {
        return;
    }
    // Saturated colours, which another matrix shifts by tens of levels.
    let program = Program::new();
    let halves =
        "color=red:size=256x256:rate=5:duration=0.2,drawbox=x=128:w=128:h=256:c=lime:t=fill";
    let mut firsts = Vec::new();
    for (matrix, tag) in [("bt601", "smpte170m"), ("bt709", "bt709")] {
        let scale = format!("scale=out_color_matrix={matrix}:out_range=tv");
        let clip = format!("{matrix}.mp4");
        let made = [
            "-f",
            "lavfi",
            "-i",
            halves,
            "-vf",
            &scale,
            "-colorspace",
            tag,
        ];
        let coded = ["-c:v", "libx264", "-pix_fmt", "yuv444p", "-crf", "1", &clip];
        output(&program, "ffmpeg", &[&made[..], &coded].concat());
        let out = format!("out_{clip}");
        let args = [
            "restore",
            &clip,
            "-o",
            &out,
            "--upscale",
            "1",
            "--steps",
            "2",
        ];
        let more = ["--save-stages", matrix, "--video-crf", "1"];
        program.tiny_bundle(&[&args[..], &more].concat()).code(0);
        let stage = |what| format!("{matrix}/frame_00000001_{what}.png");
        let restored = pixels(&program, &stage("color_fixed"), matrix);
        let difference = mean_difference(&restored, &pixels(&program, &out, matrix));
        // By the other matrix it is above 5.
        assert!(difference < 4.0, "{matrix}: {difference}");
        let stage1 = pixels(&program, &stage("stage1"), matrix);
        firsts.push(stage1);
    }
    let difference = mean_difference(&firsts[0], &firsts[1]);
    assert!(difference < 2.0, "{difference}");
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_file() {
    if !has_ffmpeg() {
        return;
    }
    let program = Program::new();
    make(&program, "ntsc.mp4", &seconds());
    restore(&program, "ntsc.mp4", "whole.mp4").code(0);
    let args = [
        "restore",
        "ntsc.mp4",
        "-o",
        "out.mp4",
        "--steps",
        "2",
        "--upscale",
        "2",
    ];
    let killed = program.when(&[&args[..], &["--json"]].concat(), "\"number\":3,", |id| {
        kill(id, "KILL")
    });
    killed.killed();
    assert!(!program.dir().join("out.mp4").exists());
    let made = program
        .files("out.mp4.frames")
        .iter()
        .filter(|name| name.ends_with(".png"))
        .count();
    assert!((3..).contains(&made), "{made}");
    let other = [&args[..], &["--seed", "8"]].concat();
    let run = program.tiny_bundle(&other);
    run.code(2);
    run.says(&[
        "was made with other settings: sampling.seed was 231 and is 8",
        "--overwrite",
    ]);
    let run = program.tiny_bundle(&args);
    run.code(0);
    run.says(&["frame_00000003.png exists, skipped"]);
    assert!(program.read("out.mp4") == program.read("whole.mp4"));
    assert_eq!(program.files("."), ["ntsc.mp4", "out.mp4", "whole.mp4"]);
    // The result is kept, kept with a message, or replaced.
    restore(&program, "ntsc.mp4", "out.mp4").code(2);
    program
        .tiny_bundle(&[&args[..], &["--skip-existing"]].concat())
        .code(0);
    // As killed between giving the result its name and clearing up.
    std::fs::create_dir(program.dir().join("out.mp4.frames")).unwrap();
    let result = program.dir().join("out.mp4.frames/result");
    std::fs::hard_link(program.dir().join("out.mp4"), result).unwrap();
    program.tiny_bundle(&args).code(0);
    assert!(!program.dir().join("out.mp4.frames").exists());
    program
        .tiny_bundle(&[&other[..], &["--overwrite"]].concat())
        .code(0);
    assert!(program.read("out.mp4") != program.read("whole.mp4"));
}

#[test]
fn without_ffmpeg_it_is_said_how_to_install_it_and_none_is_taken_from_the_working_folder() {
    let program = Program::new();
    write(program.dir(), "clip.mp4", b"");
    for name in ["ffmpeg", "ffprobe"] {
        let path = write(program.dir(), name, b"#!/bin/sh\ntouch ran\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let here = program.dir().to_string_lossy().into_owned();
    for path in ["", ".", ".:/nowhere", &here] {
        let mut command =
            program.command(&["restore", "clip.mp4", "-o", "out.mp4", "--bundle", &tiny()]);
        command.env("PATH", path);
        let run = Run::of(command);
        run.code(2);
        run.says(&[
            "no folder of PATH has ffmpeg and ffprobe",
            "apt install ffmpeg",
        ]);
    }
    assert_eq!(program.files("."), ["clip.mp4", "ffmpeg", "ffprobe"]);
}

#[test]
fn what_is_no_clip_or_asked_for_wrongly_is_refused_before_work() {
    let program = Program::new();
    std::fs::create_dir(program.dir().join("in")).unwrap();
    for (args, says) in [
        (
            &["clip.mp4", "-o", "out"][..],
            "name the result so too, such as --output out.mp4",
        ),
        (&["clip.mp4", "-o", "out.webm"], "name the result so too"),
        (
            &["a.png", "b.png", "-o", "out.mp4"],
            "out.mp4 is a video's name: give one video",
        ),
        (
            &["in", "-o", "out.mp4", "--frames"],
            "out.mp4 is a video's name: give one video",
        ),
    ] {
        let run = program.tiny_bundle(&[&["restore"], args].concat());
        run.code(2);
        run.says(&[says]);
    }
    if !has_ffmpeg() {
        return;
    }
    make(&program, "ntsc.mp4", "0.2");
    let clip = program.read("ntsc.mp4");
    write(program.dir(), "cut.mp4", &clip[..clip.len() / 2]);
    // Playlists that name another file.
    write(
        program.dir(),
        "list.mp4",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nntsc.mp4\n#EXT-X-ENDLIST\n",
    );
    write(
        program.dir(),
        "concat.mp4",
        b"ffconcat version 1.0\nfile ntsc.mp4\n",
    );
    write(program.dir(), "empty.mp4", b"");
    for name in [
        "cut.mp4",
        "list.mp4",
        "concat.mp4",
        "empty.mp4",
        "absent.mp4",
    ] {
        let run = restore(&program, name, "out.mp4");
        run.code(1);
        run.says(&[name]);
    }
    let few = [
        "restore",
        "ntsc.mp4",
        "-o",
        "out.mp4",
        "--max-pixels",
        "100",
    ];
    let run = program.tiny_bundle(&few);
    run.code(1);
    run.says(&[
        "exceeds specified max pixel count 100",
        "(raise it with --max-pixels)",
    ]);
    // Sound that MP4 does not hold is found out before any frame is restored.
    output(
        &program,
        "ffmpeg",
        &[
            "-i",
            "ntsc.mp4",
            "-c:v",
            "copy",
            "-c:a",
            "pcm_s16le",
            "pcm.mkv",
        ],
    );
    let run = restore(&program, "pcm.mkv", "out.mp4");
    run.code(2);
    run.says(&["out.mp4 cannot be written", "name it .mkv"]);
    restore(&program, "pcm.mkv", "out.mkv").code(0);
}
