/**
 * Fits the match rule: a sigmoid over the argument that a bundle has (Platt 1999), evaluated by
 * cross-validation over images. The trainer fits its rules alike
 * (`training/tandem_training/evaluation/calibration.py`).
 */

/** Texts with candidates, one row for each pair. */
export interface ScoredPairs {
  /** Argument of the rule that the bundle has. */
  argument: Float64Array
  /** The match by that rule. */
  match: Float64Array
  isMatch: Uint8Array
  /** Number of the image that the text of the pair belongs to. */
  image: Int32Array
}

export interface Sigmoid {
  scale: number
  bias: number
}

export interface Bin {
  /** Mean of the predicted matches. */
  predicted: number
  /** Share of pairs that match. */
  observed: number
  /** Of all pairs. */
  share: number
}

export interface Quality {
  /** Nats. */
  logLoss: number
  /** Mean gap of the bins (Guo et al. 2017, arXiv:1706.04599). */
  calibrationError: number
  bins: Bin[]
}

export interface Fit {
  /** Of the argument that the bundle has. */
  sigmoid: Sigmoid
  before: Quality
  /** Of rules that were not fitted on the image at hand. */
  after: Quality
}

const FOLDS = 5
const BINS = 15
const STEPS = 100
/** Keeps the slope of separable scores finite. */
const RIDGE = 1e-9
const TINY = 1e-12

/**
 * Matches and near misses count as equally likely: of many candidates one matches only because so
 * many were recalled (King and Zeng 2001).
 * @throws RangeError when a higher argument does not mean more matches
 */
export function fitMatch(pairs: ScoredPairs): Fit {
  const weights = balanced(pairs.isMatch)
  const sigmoid = fitSigmoid(pairs, () => true)
  const heldOut = new Float64Array(pairs.argument.length)
  const images = [...new Set(pairs.image)]
  // A fixed order that does not follow that of the images.
  const foldOf = new Map(
    images
      .map((image) => [image, hashed(image)] as const)
      .sort((a, b) => a[1] - b[1])
      .map(([image], place) => [image, place % FOLDS]),
  )
  for (let fold = 0; fold < FOLDS; fold += 1) {
    const isLeft = (row: number): boolean => foldOf.get(pairs.image[row] ?? 0) === fold
    const { scale, bias } = fitSigmoid(pairs, (row) => !isLeft(row))
    pairs.argument.forEach((value, row) => {
      if (isLeft(row)) heldOut[row] = sigmoidOf(scale * value + bias)
    })
  }
  return {
    sigmoid,
    before: qualityOf(pairs.match, pairs.isMatch, weights),
    after: qualityOf(heldOut, pairs.isMatch, weights),
  }
}

/**
 * The most likely sigmoid by Newton's method, its bias moved to the prior one half.
 * @throws RangeError as `fitMatch`
 */
function fitSigmoid({ argument, isMatch }: ScoredPairs, isUsed: (row: number) => boolean): Sigmoid {
  const rows = Array.from(argument.keys()).filter(isUsed)
  const matches = rows.reduce((sum, row) => sum + (isMatch[row] ?? 0), 0)
  const mean = rows.reduce((sum, row) => sum + (argument[row] ?? 0), 0) / rows.length
  const spread =
    Math.sqrt(
      rows.reduce((sum, row) => sum + ((argument[row] ?? 0) - mean) ** 2, 0) / rows.length,
    ) + TINY
  let [slope, offset] = [0, 0]
  const lossOf = (a: number, b: number): number =>
    rows.reduce(
      (sum, row) => {
        const z = a * (((argument[row] ?? 0) - mean) / spread) + b
        // log(1 + exp(z)) − y·z without overflow.
        return sum + Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))) - (isMatch[row] ?? 0) * z
      },
      (RIDGE / 2) * a * a,
    )
  let loss = lossOf(0, 0)
  for (let step = 0; step < STEPS; step += 1) {
    let [ga, gb, aa, ab, bb] = [RIDGE * slope, 0, RIDGE, 0, TINY]
    for (const row of rows) {
      const x = ((argument[row] ?? 0) - mean) / spread
      const p = sigmoidOf(slope * x + offset)
      const error = p - (isMatch[row] ?? 0)
      const curve = p * (1 - p)
      ga += error * x
      gb += error
      aa += curve * x * x
      ab += curve * x
      bb += curve
    }
    const determinant = aa * bb - ab * ab
    if (!(determinant > 0)) break
    const [da, db] = [(bb * ga - ab * gb) / determinant, (aa * gb - ab * ga) / determinant]
    let part = 1
    let next = lossOf(slope - da, offset - db)
    while (!(next <= loss) && part > TINY) {
      part /= 2
      next = lossOf(slope - part * da, offset - part * db)
    }
    if (!(next <= loss)) break
    slope -= part * da
    offset -= part * db
    const gain = loss - next
    loss = next
    if (gain < TINY * rows.length) break
  }
  const scale = slope / spread
  if (!(scale > 0))
    throw new RangeError(
      'The scores do not predict which pairs match: the bundle ranks these pairs no better than chance.',
    )
  return { scale, bias: offset - scale * mean + Math.log((rows.length - matches) / matches) }
}

/** Each kind of pairs weighs the same. */
function balanced(isMatch: Uint8Array): Float64Array {
  const matches = isMatch.reduce((sum, one) => sum + one, 0)
  return Float64Array.from(isMatch, (one) => (one === 1 ? (isMatch.length - matches) / matches : 1))
}

function qualityOf(match: Float64Array, isMatch: Uint8Array, weights: Float64Array): Quality {
  const sums = Array.from({ length: BINS }, () => ({ weight: 0, predicted: 0, observed: 0 }))
  let [total, loss] = [0, 0]
  match.forEach((probability, row) => {
    const [truth, weight] = [isMatch[row] ?? 0, weights[row] ?? 0]
    const bin = sums[Math.min(Math.floor(probability * BINS), BINS - 1)]
    if (bin === undefined) return
    bin.weight += weight
    bin.predicted += weight * probability
    bin.observed += weight * truth
    total += weight
    loss -= weight * Math.log(Math.max(truth === 1 ? probability : 1 - probability, TINY))
  })
  const bins = sums
    .filter(({ weight }) => weight > 0)
    .map(({ weight, predicted, observed }) => ({
      predicted: predicted / weight,
      observed: observed / weight,
      share: weight / total,
    }))
  return {
    logLoss: loss / total,
    calibrationError: bins.reduce(
      (sum, { predicted, observed, share }) => sum + share * Math.abs(predicted - observed),
      0,
    ),
    bins,
  }
}

function sigmoidOf(z: number): number {
  return 1 / (1 + Math.exp(-z))
}

/** Multiplicative hash (Knuth), so that neighbours come into other folds. */
function hashed(number: number): number {
  return Math.imul(number + 1, 2654435761) >>> 0
}
