//! Counts the copies between devices that ONNX Runtime inserts into a graph.
//!
//! They are inserted after nodes have been assigned to providers, so the session's node assignment does not list them.
//! ONNX Runtime logs one message for each (`transformer_memcpy.cc`: "Add MemcpyToHost before x for
//! CUDAExecutionProvider"); those messages are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;

/// A counter of copies, updated while a session is created.
#[derive(Debug, Default)]
pub(super) struct Copies(Arc<AtomicUsize>);

impl Copies {
    /// Counts the copies in the session that `builder` creates. Other log messages are dropped: errors are also
    /// returned.
    pub(super) fn count_in(&self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let count = Arc::clone(&self.0);
        let log = move |_: LogLevel, _: &str, _: &str, _: &str, message: &str| {
            if is_copy(message) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        Ok(builder
            .with_log_level(LogLevel::Info)?
            .with_logger(Arc::new(log))?)
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn is_copy(message: &str) -> bool {
    ["Add MemcpyToHost ", "Add MemcpyFromHost "]
        .iter()
        .any(|start| message.contains(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_is_one_message() {
        let copies = [
            "Add MemcpyFromHost after input_ids for CUDAExecutionProvider",
            "Add MemcpyToHost before /model.10/cv2/act/Mul_output_0 for CUDAExecutionProvider",
        ];
        assert!(copies.into_iter().all(is_copy));
        let others = [
            "3 Memcpy nodes are added to the graph main_graph for CUDAExecutionProvider.",
            "GraphTransformer MemcpyTransformer modified: 1 with status: OK",
        ];
        assert!(!others.into_iter().any(is_copy));
    }
}
