/** The check of `manifest.json` against `models/manifest.schema.json`, which training shares. */
import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { BundleError } from './bundle.js'
import { textEncodersOf, type Manifest, type MatchRule } from './bundle.js'

const schema = new URL('../../../models/manifest.schema.json', import.meta.url)
// The schema is our own, so that it need not be checked.
const options = { allErrors: true, strict: false, meta: false, validateSchema: false }
const validate = new Ajv(options).compile<Manifest>(
  JSON.parse(readFileSync(schema, 'utf8')) as object,
)

/**
 * @param source - name of the file, for the message
 * @throws BundleError naming every field that does not fit
 */
export function parseManifest(text: string, source: string): Manifest {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new BundleError(`${source} is not JSON: ${(error as Error).message}`)
  }
  if (validate(value)) {
    for (const { match } of textEncodersOf(value)) checkKnots(match, source)
    return value
  }
  const problems = (validate.errors ?? []).map(({ instancePath, message, params }) => {
    const extra = 'additionalProperty' in params ? ` ("${String(params.additionalProperty)}")` : ''
    return `${instancePath === '' ? 'the manifest' : instancePath} ${message}${extra}`
  })
  throw new BundleError(`${source} does not fit the manifest schema: ${problems.join('; ')}`)
}

/** A JSON schema cannot require that numbers increase. */
function checkKnots({ knots = [] }: MatchRule, source: string): void {
  knots.forEach(([argument, probability], at) => {
    const before = knots[at - 1]
    if (before === undefined || (argument > before[0] && probability >= before[1])) return
    throw new BundleError(
      `${source} has match.knots that do not increase: [${before.join(', ')}] is followed by [${argument}, ${probability}].`,
    )
  })
}
