//! The straight line through points, by least squares, and how sure its slope is.

/// A line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// What is added per unit of x.
    pub(crate) slope: f64,
    /// The standard error of the slope, as if the points were independent, which samples of one process are not.
    pub(crate) error: f64,
}

/// The line through at least three points that are not all at one x.
pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Line> {
    let count = points.iter().fold(0.0, |count, _| count + 1.0);
    if points.len() < 3 {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    let residual = |(x, y): &(f64, f64)| (y - mean_y - slope * (x - mean_x)).powi(2);
    let residuals: f64 = points.iter().map(residual).sum();
    let error = (residuals / (count - 2.0) / spread).sqrt();
    Some(Line { slope, error })
}
