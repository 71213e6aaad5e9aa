/** The value that a share of `values` does not exceed; NaN for no values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** The slope of the least-squares line through points. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: 0 | 1): number =>
    points.reduce((sum, point) => sum + point[of], 0) / points.length
  const [meanX, meanY] = [mean(0), mean(1)]
  const products = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0)
  const squares = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0)
  return products / squares
}

/** The observations of one histogram of /metrics between two scrapes. */
export class HistogramChange {
  readonly #shares: readonly { bound: number; share: number }[]
  readonly count: number

  constructor(
    name: string,
    before: ReadonlyMap<string, number>,
    after: ReadonlyMap<string, number>,
  ) {
    const change = (series: string): number => (after.get(series) ?? 0) - (before.get(series) ?? 0)
    this.count = change(`${name}_count`)
    const buckets = [...after.keys()].flatMap((series) => {
      const bound = new RegExp(`^${name}_bucket\\{le="([^"]+)"\\}$`).exec(series)?.[1]
      return bound === undefined
        ? []
        : [{ bound: bound === '+Inf' ? Infinity : Number(bound), series }]
    })
    this.#shares = buckets
      .map(({ bound, series }) => ({ bound, share: change(series) / this.count }))
      .sort((a, b) => a.bound - b.bound)
  }

  /** The smallest bucket bound that a share of the observations does not exceed. */
  quantile(share: number): number {
    return this.#shares.find((bucket) => bucket.share >= share)?.bound ?? Number.NaN
  }

  /** The share of observations up to `bound`, one of the histogram's bounds. */
  shareUpTo(bound: number): number {
    return this.#shares.find((bucket) => bucket.bound === bound)?.share ?? Number.NaN
  }
}
