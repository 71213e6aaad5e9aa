/** The contract of the hub: names of models, where they are fetched from and kept. */

/** A model that cannot be fetched; the message says why, and what helps. */
export class HubError extends Error {
  override readonly name = 'HubError'
}

/** A model of the hub at a branch, a tag or a commit. */
export interface HubModel {
  /** Owner and name, such as `onnx-community/siglip2-base-patch16-256-ONNX`. */
  id: string
  revision: string
}

/** Set by the variables that all clients of the hub read. */
export interface HubSettings {
  /** Origin, and a path where a mirror has one. */
  endpoint: string
  /** Folder of `models--owner--name`. */
  cache: string
  /** Only sent to the endpoint. */
  token: string | null
  /** Whether only the cache is read. */
  offline: boolean
}

const PART = /^(?!.*(?:--|\.\.))[A-Za-z0-9_][\w.-]{0,95}$/
const REVISION = /^(?!.*(?:\.\.|\/\/|\.lock$))[\w][\w./-]{0,199}$/

/** `owner/name` or `owner/name@revision`; null if the text has another form. */
export function hubModel(text: string): HubModel | null {
  const [id = '', revision = 'main', ...more] = text.split('@')
  const parts = id.split('/')
  const isId = parts.length === 2 && parts.every((part) => PART.test(part))
  return isId && more.length === 0 && REVISION.test(revision) ? { id, revision } : null
}

/**
 * Whether a file of a repository may be written under its name.
 * The name comes from the server, so it is checked before it becomes a path.
 */
export function isSafeName(name: string): boolean {
  return (
    name.length <= 500 &&
    // eslint-disable-next-line no-control-regex
    !/[\u0000-\u001f\u007f\\]/.test(name) &&
    !/^[A-Za-z]:/.test(name) &&
    name.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  )
}
