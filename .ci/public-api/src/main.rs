//! Lists the public API that a file of rustdoc's JSON describes, a line an item.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let json = env::args_os().nth(1).ok_or("name a file of rustdoc's JSON")?;
    // Without what every type has: blanket implementations, and `Send` and the like where the compiler gives them.
    let api =
        public_api::Builder::from_rustdoc_json(json).omit_blanket_impls(true).omit_auto_trait_impls(true).build()?;
    print!("{api}");
    Ok(())
}
