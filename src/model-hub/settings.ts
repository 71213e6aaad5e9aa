/** The variables that the hub's own library reads: docs/models.md lists them. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { HubError, type HubSettings } from './hub.js'

const ENDPOINT = 'https://huggingface.co'
const TRUE = /^(1|on|yes|true)$/i

/**
 * @throws HubError when HF_ENDPOINT is no address or the token is none that a header can carry
 */
export function hubSettings(environment: NodeJS.ProcessEnv): HubSettings {
  const set = (name: string): string | undefined => {
    const value = environment[name]?.trim()
    return value === '' ? undefined : value
  }
  const home = expanded(
    set('HF_HOME') ?? join(set('XDG_CACHE_HOME') ?? join(homedir(), '.cache'), 'huggingface'),
  )
  const endpoint = (set('HF_ENDPOINT') ?? ENDPOINT).replace(/\/+$/, '')
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol))
    throw new HubError(`HF_ENDPOINT is "${endpoint}"; expected an address such as ${ENDPOINT}.`)
  const token =
    set('HF_TOKEN') ??
    set('HUGGING_FACE_HUB_TOKEN') ??
    tokenIn(expanded(set('HF_TOKEN_PATH') ?? join(home, 'token')))
  if (token !== null && !/^[\x21-\x7e]+$/.test(token))
    throw new HubError('The token of the hub has characters that no token has; set HF_TOKEN.')
  return {
    endpoint,
    cache: expanded(set('HF_HUB_CACHE') ?? set('HUGGINGFACE_HUB_CACHE') ?? join(home, 'hub')),
    token,
    offline: TRUE.test(set('HF_HUB_OFFLINE') ?? set('TRANSFORMERS_OFFLINE') ?? ''),
  }
}

function expanded(path: string): string {
  return path.replace(/^~(?=$|\/)/, homedir())
}

/** The file that `hf auth login` writes. */
function tokenIn(path: string): string | null {
  try {
    const token = readFileSync(path, 'utf8').trim()
    return token === '' ? null : token
  } catch {
    return null
  }
}
