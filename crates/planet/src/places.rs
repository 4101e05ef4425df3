//! Where clouds have regions, by the code of the nearest airport.

use telemetry::geo::Coordinates;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub name: &'static str,
    pub at: Coordinates,
}

/// In an order in which every prefix of eight or more is spread over the world.
pub const PLACES: [Place; 32] = [
    place("iad", 38.9445, -77.4558),
    place("fra", 50.0333, 8.5706),
    place("sin", 1.3592, 103.9894),
    place("gru", -23.4356, -46.4731),
    place("syd", -33.9461, 151.1772),
    place("nrt", 35.7653, 140.3856),
    place("jnb", -26.1392, 28.2460),
    place("sjc", 37.3626, -121.9290),
    place("bom", 19.0887, 72.8679),
    place("lhr", 51.4706, -0.4619),
    place("dxb", 25.2528, 55.3644),
    place("ord", 41.9786, -87.9048),
    place("hkg", 22.3089, 113.9146),
    place("scl", -33.3930, -70.7858),
    place("ams", 52.3086, 4.7639),
    place("sea", 47.4490, -122.3093),
    place("icn", 37.4691, 126.4505),
    place("dfw", 32.8968, -97.0380),
    place("cdg", 49.0128, 2.5500),
    place("bog", 4.7016, -74.1469),
    place("yul", 45.4706, -73.7408),
    place("mad", 40.4719, -3.5626),
    place("arn", 59.6519, 17.9186),
    place("del", 28.5665, 77.1031),
    place("waw", 52.1657, 20.9671),
    place("kix", 34.4273, 135.2440),
    place("cgk", -6.1256, 106.6559),
    place("los", 6.5774, 3.3212),
    place("mel", -37.6733, 144.8433),
    place("yyz", 43.6772, -79.6306),
    place("mxp", 45.6306, 8.7281),
    place("akl", -37.0081, 174.7917),
];

const fn place(name: &'static str, lat: f64, lon: f64) -> Place {
    Place { name, at: Coordinates { lat, lon } }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_places_share_a_name_or_a_spot() {
        let names: BTreeSet<_> = PLACES.iter().map(|place| place.name).collect();
        assert_eq!(names.len(), PLACES.len());
        for (index, place) in PLACES.iter().enumerate() {
            let nearest = PLACES[..index].iter().map(|other| place.at.distance_km(other.at)).fold(f64::MAX, f64::min);
            assert!(nearest > 250.0, "{} is {nearest} km from another", place.name);
        }
    }

    #[test]
    fn the_first_eight_reach_around_the_world() {
        for (index, place) in PLACES[..8].iter().enumerate() {
            let nearest = PLACES[..index].iter().map(|other| place.at.distance_km(other.at)).fold(f64::MAX, f64::min);
            assert!(nearest > 3500.0, "{} is {nearest} km from another", place.name);
        }
        for place in &PLACES {
            let nearest = PLACES[..8].iter().map(|other| place.at.distance_km(other.at)).fold(f64::MAX, f64::min);
            assert!(nearest < 7500.0, "{} is {nearest} km from the first eight", place.name);
        }
    }
}
