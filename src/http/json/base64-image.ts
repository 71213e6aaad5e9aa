/** Images as clients write them in JSON: base64 or a data-URI. */

const DATA = /^data:/i
const BASE64_MARK = ';base64'
const NOT_BASE64 = /[^A-Za-z0-9+/_=\s-]/u
const URL_START = /^(?!data:)[a-z][a-z0-9+.-]{0,20}:/i

/** Whether the text is the address of an image. */
export function isUrl(text: string): boolean {
  return URL_START.test(text)
}

/** The bytes of an image, or what is wrong with the text: the rest of a sentence about it. */
export function decodedImage(text: string): Uint8Array | string {
  const comma = DATA.test(text) ? text.indexOf(',') : -1
  if (comma !== -1 && text.slice(0, comma).slice(-BASE64_MARK.length).toLowerCase() !== BASE64_MARK)
    return 'is a data-URI that is not base64; expected data:image/jpeg;base64,…'
  const base64 = text.slice(comma + 1)
  const bytes = Buffer.from(base64, 'base64')
  // Decoding skips other characters, so its length tells of most texts that there are none.
  const fault = bytes.length === lengthDecoded(base64) ? null : faultOf(base64)
  if (fault !== null) return `is not valid base64: ${fault}.`
  return bytes.length === 0 ? 'is an empty image.' : bytes
}

/**
 * The bytes that a text of base64 letters and padding alone decodes to. NaN where one letter more
 * or less decodes to as many.
 */
function lengthDecoded(base64: string): number {
  const letters = base64.length - (/={1,2}$/.exec(base64.slice(-2))?.[0].length ?? 0)
  return letters % 4 === 1 ? Number.NaN : Math.floor((letters * 3) / 4)
}

/** What is not base64, or null. Line breaks are part of it, as in MIME. */
function faultOf(base64: string): string | null {
  const other = NOT_BASE64.exec(base64)
  if (other !== null) return `character ${other.index} is ${JSON.stringify(other[0])}`
  const padding = base64.indexOf('=')
  const end = padding === -1 ? '' : base64.slice(padding).replace(/\s+/g, '')
  return /^={0,2}$/.test(end) ? null : `character ${padding} is "=", which belongs at the end`
}
