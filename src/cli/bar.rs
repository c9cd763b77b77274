//! A bar for what is counted in rows.

use indicatif::{ProgressBar, ProgressStyle};

/// Shows rows done, of all rows, on standard error; shows nothing where a program reads.
pub fn copy_bar(json: bool) -> impl FnMut(u64, u64) {
    let bar = if json {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} rows ({elapsed})") {
        bar.set_style(style.progress_chars("=> "));
    }
    move |done, all| {
        bar.set_length(all);
        bar.set_position(done);
        if done >= all {
            bar.finish_and_clear();
        }
    }
}
