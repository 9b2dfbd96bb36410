//! `cargo run --release -p tally-edge-agent --example bench_vault -- DIR SECONDS`; people use `tally bench field`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a folder")?;
    let seconds = args.next().map_or(Ok(5), |seconds| seconds.parse())?;
    println!("{:#?}", tally_edge_agent::bench_vault(dir.as_ref(), seconds)?);
    Ok(())
}
