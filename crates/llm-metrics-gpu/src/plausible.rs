//! Plausible values, by unit.

use llm_metrics::catalog::Unit;

/// The value, if it is plausible; drivers use the largest integers for "unknown".
pub(crate) fn plausible(unit: Unit, value: f64) -> Option<f64> {
    const ROUNDING: f64 = 0.01;
    let range = match unit {
        // A quotient of two counters may be slightly above 1.
        Unit::Ratio if value > 1.0 && value <= 1.0 + ROUNDING => return Some(1.0),
        Unit::Ratio => 0.0..=1.0,
        // A machine may be outdoors.
        Unit::Celsius => -100.0..=250.0,
        Unit::Watts => 0.0..=100_000.0,
        Unit::Hertz => 0.0..=1e11,
        Unit::BytesPerSecond => 0.0..=1e14,
        Unit::Bytes => 0.0..=1e15,
        _ => 0.0..=1e9,
    };
    range.contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_unknown_are_not_values() {
        assert_eq!(plausible(Unit::Ratio, 42_949_672.95), None);
        assert_eq!(plausible(Unit::Count, f64::from(u32::MAX)), None);
        assert_eq!(plausible(Unit::Bytes, u64::MAX as f64), None);
        assert_eq!(plausible(Unit::Celsius, f64::NAN), None);
        assert_eq!(plausible(Unit::Ratio, 1.004), Some(1.0));
    }

    #[test]
    fn each_unit_has_its_own_range() {
        for (unit, least, most) in [
            (Unit::Celsius, -100.0, 250.0),
            (Unit::Watts, 0.0, 100_000.0),
            (Unit::Hertz, 0.0, 1e11),
            (Unit::BytesPerSecond, 0.0, 1e14),
            (Unit::Bytes, 0.0, 1e15),
            (Unit::Count, 0.0, 1e9),
            (Unit::Ratio, 0.0, 1.0),
        ] {
            assert_eq!(plausible(unit, least), Some(least), "{unit:?}");
            assert_eq!(plausible(unit, most), Some(most), "{unit:?}");
            assert_eq!(plausible(unit, least - 0.1), None, "{unit:?}");
            assert_eq!(plausible(unit, most * 1.02), None, "{unit:?}");
        }
        assert_eq!(plausible(Unit::Ratio, 1.01), Some(1.0));
        assert_eq!(plausible(Unit::Ratio, f64::INFINITY), None);
    }
}
