//! Decoding apart. This program is its own child: asked for [`sandbox::COMMAND`] it decodes as `diffbir` does, but for
//! "pictures" that name a fault. The program that is delivered has no such hook.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[allow(dead_code, unused_imports)]
#[path = "pictures/colours.rs"]
mod colours;
#[allow(dead_code)]
#[path = "pictures/kinds.rs"]
mod kinds;
#[allow(dead_code)]
#[path = "common/program.rs"]
mod program;
#[allow(dead_code, unused_imports)]
#[path = "pictures/tiffs.rs"]
mod tiffs;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED (nothing is decoded apart here)");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::net::TcpStream;
    use std::panic::catch_unwind;
    use std::path::{Path, PathBuf};
    use std::process::{Command, ExitCode, Stdio};

    use diffbir::cancel::Cancel;
    use diffbir::error::{Error, ErrorKind, Result};
    use diffbir::imageio::{self, BitDepth, DecodeOptions, EncodeOptions, Kept, Picture};
    use diffbir::sandbox::{self, Apart};
    use diffbir::service::pictures;
    use seccompiler::{SeccompAction, SeccompFilter};

    use crate::kinds::{self, LIMIT};
    use crate::program::{Program, Run, picture, tiny};

    const TESTS: &[(&str, fn())] = &[
        ("same_as_in_this_process", same_as_in_this_process),
        (
            "each_fault_is_the_error_of_its_picture",
            each_fault_is_the_error_of_its_picture,
        ),
        (
            "what_a_child_says_is_not_believed",
            what_a_child_says_is_not_believed,
        ),
        ("large_pictures_come_through", large_pictures_come_through),
        (
            "a_stopped_run_waits_for_no_child",
            a_stopped_run_waits_for_no_child,
        ),
        ("a_batch_goes_on", a_batch_goes_on),
        (
            "without_landlock_there_is_a_note",
            without_landlock_there_is_a_note,
        ),
        (
            "without_seccomp_nothing_is_decoded_apart",
            without_seccomp_nothing_is_decoded_apart,
        ),
        ("strangers_need_both", strangers_need_both),
    ];

    /// The child; the program `restore`; or the tests whose names contain an argument.
    pub fn main() -> ExitCode {
        match std::env::args().nth(1).as_deref() {
            Some(sandbox::COMMAND) => {
                let done = sandbox::child(std::env::args_os(), faulty);
                return done.unwrap().unwrap();
            }
            Some("restore") => return diffbir::cli::run(),
            _ => sandbox::enable(),
        }
        let named: Vec<String> = std::env::args()
            .skip(1)
            .filter(|a| !a.starts_with('-'))
            .collect();
        let wanted = |name: &str| named.is_empty() || named.iter().any(|part| name.contains(part));
        let mut failed = 0;
        for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
            let passes = catch_unwind(test).is_ok();
            println!("test {name} ... {}", if passes { "ok" } else { "FAILED" });
            failed += usize::from(!passes);
        }
        println!(
            "test result: {}. {failed} failed",
            if failed == 0 { "ok" } else { "FAILED" }
        );
        ExitCode::from(u8::from(failed > 0))
    }

    /// Decodes, or does what no decoder should.
    fn faulty(bytes: &[u8], options: DecodeOptions) -> Result<Picture> {
        let Some(fault) = bytes.strip_prefix(b"FAULT ") else {
            return imageio::decode(bytes, options);
        };
        match std::str::from_utf8(fault).unwrap() {
            "abort" => std::process::abort(),
            "end" => std::process::exit(3),
            "panic" => panic!("a defect"),
            // SAFETY: not sound: to read where nothing is mapped is the fault that is wanted.
            "memory" => drop(unsafe { std::ptr::without_provenance::<u8>(8).read_volatile() }),
            "loop" => loop {
                std::hint::spin_loop();
            },
            "wait" => loop {
                std::thread::park();
            },
            "allocate" => drop(allocate()),
            "file" => drop(std::fs::File::open("/etc/passwd")),
            "create" => drop(std::fs::File::create("/tmp/diffbir-escaped")),
            "connect" => drop(TcpStream::connect("127.0.0.1:1")),
            "process" => drop(Command::new("/bin/true").spawn()),
            "thread" => drop(std::thread::Builder::new().spawn(|| ())),
            "refuse" => return Err(Error::bundle("\x1b[2Ja lie")),
            said => {
                std::io::stdout().write_all(said.as_bytes()).unwrap();
                std::process::exit(0);
            }
        }
        Err(Error::input("a fault without consequences"))
    }

    /// Untouched memory, so that the machine has it to spare.
    fn allocate() -> Vec<Vec<u8>> {
        let blocks = (0..1 << 14).map(|_| std::hint::black_box(vec![0; 64 << 20]));
        blocks.collect()
    }

    fn apart(seconds: u64) -> Apart<'static> {
        static NEVER: std::sync::LazyLock<Cancel> = std::sync::LazyLock::new(Cancel::default);
        Apart {
            options: LIMIT,
            seconds,
            cancel: &NEVER,
        }
    }

    fn parts(picture: Picture) -> impl PartialEq + std::fmt::Debug {
        (picture.pixels, picture.kept, picture.dropped)
    }

    fn same_as_in_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picture");
        let goldens = ["pictures", "jpeg"].into_iter().flat_map(|folder| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/goldens")
                .join(folder);
            std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        });
        let files = kinds::kinds()
            .into_iter()
            .map(|kind| kind.bytes)
            .chain(goldens);
        let damaged = files.flat_map(|bytes| [bytes[..bytes.len() / 2].to_vec(), bytes]);
        let mut compared = (0, 0);
        for bytes in damaged {
            std::fs::write(&path, &bytes).unwrap();
            let text = |e: Error| (e.kind(), e.to_string());
            let here = imageio::decode(&bytes, LIMIT).map(parts).map_err(text);
            let read = apart(60).read(&path).map(parts).map_err(text);
            assert_eq!(read, here);
            let decoded = apart(60).decode(&bytes).map(parts).map_err(text);
            assert_eq!(decoded, here);
            let header = imageio::header(&path, LIMIT).map_err(text);
            assert_eq!(apart(60).header(&path).map_err(text), header);
            match here {
                Ok(_) => compared.0 += 1,
                Err(_) => compared.1 += 1,
            }
        }
        assert!(compared.0 >= 60 && compared.1 >= 30, "{compared:?}");
        let many = Apart {
            options: DecodeOptions::up_to(95),
            ..apart(60)
        };
        let bytes = picture(8, 12);
        assert_eq!(
            many.decode(&bytes).unwrap_err().to_string(),
            imageio::decode(&bytes, many.options)
                .unwrap_err()
                .to_string()
        );
        for missing in [PathBuf::from("/nowhere"), dir.path().to_owned()] {
            let here = imageio::read(&missing, LIMIT).unwrap_err().to_string();
            assert_eq!(apart(60).read(&missing).unwrap_err().to_string(), here);
        }
    }

    fn each_fault_is_the_error_of_its_picture() {
        for (fault, words) in [
            ("abort", "it aborted (signal 6)"),
            ("end", "ended without a result (exit status: 3)"),
            ("panic", "a defect"),
            ("memory", "invalid memory access (signal 11)"),
            ("loop", "more than 1 s"),
            ("wait", "more than 1 s"),
            ("allocate", "more memory than"),
            ("file", "opening a file"),
            ("create", "opening a file"),
            ("connect", "a connection"),
            ("process", "system call"),
            ("thread", "system call"),
        ] {
            let seconds = if words.contains(" s") && fault.len() == 4 {
                1
            } else {
                60
            };
            let error = apart(seconds)
                .decode(format!("FAULT {fault}").as_bytes())
                .unwrap_err();
            assert!(error.to_string().contains(words), "{fault}: {error}");
            assert_eq!(error.kind(), ErrorKind::Input, "{fault}: {error}");
        }
        assert!(!Path::new("/tmp/diffbir-escaped").exists());
    }

    fn what_a_child_says_is_not_believed() {
        let answer = |head: &str, more: &str| {
            let length = u8::try_from(head.len()).unwrap();
            assert!(length < 128, "it is text in UTF-8");
            format!("FAULT \0dba{}\0\0\0{head}{more}", char::from(length))
        };
        let described = |height: u64, icc: &str| {
            let head =
                r#""width":2,"sixteen":false,"format":"png","grey":false,"kept_sixteen":false"#;
            format!(
                r#"{{"Picture":{{"height":{height},{head},"alpha":false,"icc":{icc},"exif":null,"xmp":null,"iptc":null,"text":2,"resolution":null,"dropped":[99]}}}}"#
            )
        };
        let long = |head: String, more: &str| {
            let length = head.len().to_string();
            // A length above 127 is no text: two bytes that are, 0x01 and 0x10, pad the head with spaces.
            assert!(head.len() < 0x110, "{length}");
            format!(
                "FAULT \0dba\u{10}\u{1}\0\0{head}{}{more}",
                " ".repeat(0x110 - head.len())
            )
        };
        for (said, words) in [
            ("FAULT refuse".to_owned(), r"\u{1b}[2Ja lie"),
            (
                "FAULT nothing of the kind".to_owned(),
                "ended without a result",
            ),
            (answer("{}", ""), "unusable: no JSON"),
            (answer(r#"{"Ready":{"landlock":true}}"#, ""), "unusable"),
            (
                answer(r#"{"Header":{"format":"png","height":1,"width":1}}"#, ""),
                "unusable",
            ),
            (
                "FAULT \0dba\u{7f}\u{7f}\u{7f}\u{7f}".to_owned(),
                "unusable: too long",
            ),
            (long(described(1 << 20, "null"), ""), "more than the limit"),
            (long(described(0, "null"), ""), "without pixels"),
            (
                long(described(1, "null"), "12345"),
                "ended without a result",
            ),
            (
                long(described(1, "1000000000000"), "123456[]"),
                "metadata is too long",
            ),
        ] {
            let error = apart(60).decode(said.as_bytes()).map(parts).unwrap_err();
            assert!(error.to_string().contains(words), "{said:?}: {error}");
            assert_eq!(error.kind(), ErrorKind::Input, "{said:?}: {error}");
        }
        // The same answer, whole, is taken; a place that is none is left out.
        let whole = apart(60)
            .decode(long(described(1, "null"), "123456[]").as_bytes())
            .unwrap();
        assert_eq!(
            whole.pixels.to_u8().iter().copied().collect::<Vec<_>>(),
            b"123456"
        );
        assert!(whole.dropped.is_empty());
    }

    fn large_pictures_come_through() {
        let (height, width) = (1500, 2000);
        let rgb = ndarray::Array3::from_shape_fn((height, width, 3), |(y, x, c)| {
            (y * 7 + x * (c + 31)) as u16
        });
        let kept = Kept {
            depth: BitDepth::Sixteen,
            ..Kept::default()
        };
        let encoding = EncodeOptions::default();
        let bytes = imageio::encode(&rgb.into(), &kept, encoding, &BTreeMap::new()).unwrap();
        let options = DecodeOptions::up_to((height * width) as u64);
        let read = Apart {
            options,
            ..apart(600)
        }
        .decode(&bytes)
        .unwrap();
        assert_eq!(read.pixels.depth(), BitDepth::Sixteen);
        assert!(read.pixels == imageio::decode(&bytes, options).unwrap().pixels);
    }

    fn a_stopped_run_waits_for_no_child() {
        let cancel = Cancel::default();
        cancel.cancel();
        let stopped = Apart {
            cancel: &cancel,
            ..apart(86400)
        };
        assert_eq!(
            stopped.decode(b"FAULT loop").unwrap_err().kind(),
            ErrorKind::Cancelled
        );
    }

    /// This program as `diffbir restore`, on the tiny bundle.
    fn restore(program: &Program, args: &[&str]) -> Command {
        let quick = [
            "--offline",
            "--sampler",
            "ddim",
            "--steps",
            "1",
            "--upscale",
            "1",
            "--decode-apart",
        ];
        let bundle = tiny();
        let args = [&["restore"], args, &quick, &["--bundle", &bundle]].concat();
        program.command_of(&std::env::current_exe().unwrap(), &args)
    }

    fn a_batch_goes_on() {
        let program = Program::new();
        let faults = ["abort", "allocate", "connect", "file", "loop", "memory"];
        for fault in faults {
            std::fs::write(
                program.dir().join(format!("{fault}.png")),
                format!("FAULT {fault}"),
            )
            .unwrap();
        }
        for name in ["a.png", "z.png"] {
            std::fs::write(program.dir().join(name), picture(16, 16)).unwrap();
        }
        let mut args: Vec<String> = faults.iter().map(|fault| format!("{fault}.png")).collect();
        args.insert(0, "a.png".to_owned());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let end = [
            "z.png",
            "-o",
            "out",
            "--max-pixels",
            "1000000",
            "--decode-seconds",
            "10",
        ];
        let run = Run::of(restore(&program, &[&args[..], &end].concat()));
        run.code(1);
        run.says(&[
            "abort.png: its decoder crashed",
            "allocate.png: its decoder needs more memory",
            "connect.png: its decoder made a system call",
            "file.png: its decoder made a system call",
            "loop.png: decoding takes more than 10 s",
            "memory.png: its decoder crashed",
        ]);
        assert_eq!(program.files("out"), ["a.png", "z.png"]);
    }

    /// What `work` says where a system call fails as if the kernel did not have it.
    fn without<T: Send>(call: i64, work: impl FnOnce() -> T + Send) -> T {
        let missing = SeccompAction::Errno(libc::ENOSYS as u32);
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let rules = BTreeMap::from([(call, Vec::new())]);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
        let filter: seccompiler::BpfProgram = filter.try_into().unwrap();
        // The filter is that of a thread and of what it starts.
        let limited = || {
            seccompiler::apply_filter(&filter).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(limited).join().unwrap())
    }

    fn one(program: &Program) -> Command {
        std::fs::write(program.dir().join("a.png"), picture(16, 16)).unwrap();
        restore(program, &["a.png", "-o", "r.png"])
    }

    fn without_landlock_there_is_a_note() {
        let program = Program::new();
        let run = Run::of(one(&program));
        run.code(0);
        run.does_not_say("landlock");
        let program = Program::new();
        let run = without(libc::SYS_landlock_create_ruleset, || Run::of(one(&program)));
        run.code(0);
        run.says(&["landlock is not available"]);
    }

    fn without_seccomp_nothing_is_decoded_apart() {
        let program = Program::new();
        let run = without(libc::SYS_seccomp, || Run::of(one(&program)));
        run.code(2);
        run.says(&[
            "pictures cannot be decoded apart here (seccomp: ",
            "leave out --decode-apart",
        ]);
        let refused = || apart(60).decode(&picture(8, 8)).map(parts).unwrap_err();
        assert_eq!(
            without(libc::SYS_seccomp, refused).kind(),
            ErrorKind::Option
        );
    }

    /// The protection is looked for once in a process, so that each case is this program started anew.
    fn strangers_need_both() {
        if std::env::var_os("REFUSED").is_some() {
            let refused = pictures::decode_apart(false).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Option);
            let words = "landlock or seccomp is not available: give --decode-in-process";
            assert!(refused.to_string().starts_with(words), "{refused}");
            return assert!(!pictures::decode_apart(true).unwrap());
        }
        assert!(pictures::decode_apart(false).unwrap());
        for call in [libc::SYS_landlock_create_ruleset, libc::SYS_seccomp] {
            let mut again = Command::new(std::env::current_exe().unwrap());
            again
                .arg("strangers_need_both")
                .env("REFUSED", "1")
                .stdout(Stdio::null());
            let status = without(call, || again.status());
            assert!(status.unwrap().success(), "{call}");
        }
    }
}
