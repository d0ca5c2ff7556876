//! What a process uses: memory and processor time, as `/proc` tells them.

use anyhow::{Context as _, Result, anyhow};

/// Resident memory in bytes.
///
/// # Errors
/// Where there is no such process.
pub fn resident(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("ask the kernel about a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or_else(|| anyhow!("process {pid} has no memory"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is a number")?;
    Ok(kib << 10)
}

/// Processor time used so far, in seconds.
///
/// # Errors
/// Where there is no such process.
pub fn processor_seconds(pid: i32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("ask the kernel about a process")?;
    // The name stands in brackets and may hold anything; `utime` and `stime` are the 12th and 13th field behind it.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| anyhow!("/proc/{pid}/stat has no name"))?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    // USER_HZ is 100 on every Linux that we run on.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// The load average of the last minute.
///
/// # Errors
/// Where the kernel does not tell.
pub fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("read the load average")?;
    text.split_whitespace().next().context("the load average is a number")?.parse().context("the load average is a number")
}
