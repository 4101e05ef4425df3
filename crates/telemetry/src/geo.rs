//! Where a region lies, and how far that is from another.

use serde::{Deserialize, Serialize};

/// Degrees, WGS 84.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    pub lat: f64,
    pub lon: f64,
}

/// The mean radius of the earth (IUGG).
const EARTH_RADIUS_KM: f64 = 6371.009;

impl Coordinates {
    /// The great-circle distance, by the haversine formula.
    pub fn distance_km(self, other: Self) -> f64 {
        let (lat_a, lat_b) = (self.lat.to_radians(), other.lat.to_radians());
        let half_lat = (lat_b - lat_a) / 2.0;
        let half_lon = (other.lon - self.lon).to_radians() / 2.0;
        let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
        2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frankfurt_is_some_6200_km_from_new_york() {
        let frankfurt = Coordinates { lat: 50.11, lon: 8.68 };
        let new_york = Coordinates { lat: 40.71, lon: -74.01 };
        assert!((frankfurt.distance_km(new_york) - 6205.0).abs() < 20.0);
    }
}
