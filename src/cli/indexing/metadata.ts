/** Date, camera, place and caption of an image: from its file, and from the sidecar beside it. */
import { DOMParser, onErrorStopParsing } from '@xmldom/xmldom'
import ExifReader, { type ExpandedTags, type XmpTag } from 'exifreader'

/** Fields of the payload. */
export interface Metadata {
  /** ISO 8601, in the local time of the place; with its offset if the camera wrote that. */
  taken?: string
  camera?: string
  /** Degrees, south and west below 0. */
  latitude?: number
  longitude?: number
  caption?: string
}

export const METADATA_FIELDS: readonly (keyof Metadata)[] = [
  'taken',
  'camera',
  'latitude',
  'longitude',
  'caption',
]

export type SidecarKind = 'xmp' | 'json' | 'txt'

/** A payload has 64 KiB at most. */
const MAX_CAPTION_CHARS = 5000
const MAX_CAMERA_CHARS = 200
/** Some 0.1 m. */
const DEGREE_DIGITS = 6
/** "2024:05:01 12:34:56" in EXIF, "2024-05-01T12:34:56" in XMP. */
const DATE = /^(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d(?::\d\d)?)/
const OFFSET = /^[+-]\d\d:\d\d$/

/**
 * What an image file says of itself. Empty for a file without metadata, or of a type that has none.
 *
 * @throws Error if they are damaged
 */
export function embeddedMetadata(bytes: Uint8Array): Metadata {
  const tags = tagsOf(bytes)
  const { exif = {}, gps = {} } = tags
  const text = (name: string): string | undefined =>
    plain((exif as Record<string, { description?: string } | undefined>)[name]?.description)
  return {
    ...present('taken', dateOf(text('DateTimeOriginal'), text('OffsetTimeOriginal'))),
    ...present('camera', cameraOf(text('Make'), text('Model'))),
    ...placeOf(gps.Latitude, gps.Longitude),
    ...present('caption', captionOf(tags)),
  }
}

/**
 * The caption in a sidecar: `dc:description` or `dc:title` of XMP, `description` or `caption` of
 * JSON (as in the exports of Google Photos), or a whole text file.
 *
 * @throws Error if it is neither UTF-8 nor UTF-16 with a byte order mark, or not XMP or JSON
 */
export function sidecarCaption(kind: SidecarKind, bytes: Uint8Array): string | undefined {
  const text = new TextDecoder(encodingOf(bytes), { fatal: true }).decode(bytes)
  if (kind === 'txt') return clipped(text)
  if (kind === 'json') {
    const value = JSON.parse(text) as Record<string, unknown> | null
    const caption = [value?.['description'], value?.['caption']].find(
      (found) => typeof found === 'string' && found.trim() !== '',
    )
    return clipped(caption as string | undefined)
  }
  const packet = text.replace(/^\s*(<\?xml[^>]*\?>\s*)?/, '')
  // The reader takes a packet (ISO 16684-1, section 7.3); many tools write its content alone.
  const begun = packet.startsWith('<?xpacket') ? packet : `<?xpacket begin="" id=""?>${packet}`
  // Throws for text that is not XML; the reader would find no tags.
  parser().parseFromString(begun, 'text/xml')
  return captionOf(tagsOf(Buffer.from(begun)))
}

/** By the byte order mark, as Notepad writes it; without one, UTF-8. */
function encodingOf([first, second]: Uint8Array): string {
  if (first === 0xff && second === 0xfe) return 'utf-16le'
  return first === 0xfe && second === 0xff ? 'utf-16be' : 'utf-8'
}

function parser(): DOMParser {
  return new DOMParser({ onError: onErrorStopParsing })
}

function tagsOf(bytes: Uint8Array): ExpandedTags {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const includeTags = { exif: true, gps: true, xmp: true, iptc: true } as const
  return ExifReader.load(buffer, { expanded: true, domParser: parser(), includeTags })
}

function captionOf({ xmp, iptc }: ExpandedTags): string | undefined {
  const ofXmp = [xmp?.['description'], xmp?.['title']].map(textOf)
  const ofIptc = (iptc as Record<string, { description?: string }> | undefined)?.[
    'Caption/Abstract'
  ]
  return [...ofXmp, ofIptc?.description].map(clipped).find((caption) => caption !== undefined)
}

/** The text of a tag that may be in several languages: the default one. */
function textOf(tag: XmpTag | undefined): string | undefined {
  const value: unknown = tag?.value
  if (!Array.isArray(value)) return tag?.description
  const texts = value as { value?: unknown; attributes?: { lang?: string } }[]
  const text = (texts.find(({ attributes }) => attributes?.lang === 'x-default') ?? texts[0])?.value
  return typeof text === 'string' ? text : undefined
}

function dateOf(date: string | undefined, offset: string | undefined): string | undefined {
  const [, year, month, day, time] = DATE.exec(date ?? '') ?? []
  const local = `${year}-${month}-${day}T${time}`
  if (Number.isNaN(Date.parse(`${local}Z`))) return undefined
  return offset !== undefined && OFFSET.test(offset) ? `${local}${offset}` : local
}

/** Make and model; a model that begins with the make stands alone. */
function cameraOf(make: string | undefined, model: string | undefined): string | undefined {
  const isNamed = model?.toLowerCase().startsWith(make?.toLowerCase().split(' ', 1)[0] ?? '')
  const name = isNamed === true ? model : [make, model].filter(Boolean).join(' ')
  return name === undefined || name === '' ? undefined : name.slice(0, MAX_CAMERA_CHARS)
}

function placeOf(latitude: number | undefined, longitude: number | undefined): Metadata {
  const isPlace = Math.abs(latitude ?? 91) <= 90 && Math.abs(longitude ?? 181) <= 180
  // Cameras without a fix write 0, 0.
  if (!isPlace || (latitude === 0 && longitude === 0)) return {}
  const rounded = (degrees = 0): number => Number(degrees.toFixed(DEGREE_DIGITS))
  return { latitude: rounded(latitude), longitude: rounded(longitude) }
}

/** Without control characters and space at the ends; undefined if nothing is left. */
function plain(text: string | undefined): string | undefined {
  const cleaned = text?.replace(/\p{Cc}+/gu, ' ').trim()
  return cleaned === '' ? undefined : cleaned
}

function clipped(text: string | undefined): string | undefined {
  const trimmed = text?.replaceAll('\0', '').trim() ?? ''
  // Encoded once, so that half a surrogate pair is replaced.
  const whole = Buffer.from([...trimmed].slice(0, MAX_CAPTION_CHARS).join('')).toString()
  return whole === '' ? undefined : whole
}

function present<Name extends keyof Metadata>(name: Name, value: Metadata[Name]): Metadata {
  return value === undefined ? {} : { [name]: value }
}
