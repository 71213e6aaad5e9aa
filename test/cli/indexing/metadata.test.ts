import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { embeddedMetadata, sidecarCaption } from '../../../src/cli/indexing/metadata.js'

interface Tags {
  IFD0?: Record<string, string>
  IFD2?: Record<string, string>
  IFD3?: Record<string, string>
}

const image = (exif: Tags): ReturnType<typeof sharp> =>
  sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } }).withExif(exif)

const SYDNEY = {
  GPSLatitudeRef: 'S',
  GPSLatitude: '33/1 51/1 30/1',
  GPSLongitudeRef: 'E',
  GPSLongitude: '151/1 12/1 0/1',
}

describe('the metadata of a file', () => {
  it.each(['jpeg', 'png', 'webp', 'avif'] as const)('are read from %s', async (format) => {
    const exif = {
      IFD0: { Make: 'Canon', Model: 'Canon EOS 5D' },
      IFD2: { DateTimeOriginal: '2024:05:01 12:34:56', OffsetTimeOriginal: '+02:00' },
      IFD3: SYDNEY,
    }
    expect(embeddedMetadata(await image(exif).toFormat(format).toBuffer())).toEqual({
      taken: '2024-05-01T12:34:56+02:00',
      camera: 'Canon EOS 5D',
      latitude: -33.858333,
      longitude: 151.2,
    })
  })

  it.each<[string, Tags, object]>([
    ['make and model', { IFD0: { Make: 'SONY', Model: 'ILCE-7' } }, { camera: 'SONY ILCE-7' }],
    [
      'no offset',
      { IFD2: { DateTimeOriginal: '2024:05:01 12:34:56' } },
      { taken: '2024-05-01T12:34:56' },
    ],
    ['a date of zeros', { IFD2: { DateTimeOriginal: '0000:00:00 00:00:00' } }, {}],
    [
      'a place of zeros',
      { IFD3: { ...SYDNEY, GPSLatitude: '0/1 0/1 0/1', GPSLongitude: '0/1 0/1 0/1' } },
      {},
    ],
    ['a latitude beyond the pole', { IFD3: { ...SYDNEY, GPSLatitude: '133/1 0/1 0/1' } }, {}],
    ['a name of spaces', { IFD0: { Model: '   ' } }, {}],
  ])('with %s', async (_, exif, expected) => {
    expect(embeddedMetadata(await image(exif).jpeg().toBuffer())).toEqual(expected)
  })

  it('have the caption of its XMP', async () => {
    const bytes = await image({}).withXmp(xmp('Ein Café')).jpeg().toBuffer()
    expect(embeddedMetadata(bytes)).toEqual({ caption: 'Ein Café' })
  })
})

function xmp(caption: string): string {
  return (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">' +
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' +
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>' +
    `<rdf:li xml:lang="de">Hallo</rdf:li><rdf:li xml:lang="x-default">${caption}</rdf:li>` +
    '</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>'
  )
}

describe('the caption of a sidecar', () => {
  const packet = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
  it.each<[string, 'xmp' | 'json' | 'txt', string, string | undefined]>([
    ['XMP', 'xmp', xmp('Ein Café 狗'), 'Ein Café 狗'],
    ['XMP in a packet', 'xmp', `${packet}\n${xmp('a')}\n<?xpacket end="w"?>`, 'a'],
    ['XMP as a document', 'xmp', `\ufeff<?xml version="1.0" encoding="UTF-8"?>\n${xmp('a')}`, 'a'],
    ['XMP without a caption', 'xmp', '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', undefined],
    ['Google Photos', 'json', '{"title": "IMG.jpg", "description": "سگ"}', 'سگ'],
    ['JSON with a caption', 'json', '\ufeff{"description": "", "caption": "a\\ud800"}', 'a\ufffd'],
    ['JSON with no text', 'json', '{"description": 5}', undefined],
    ['JSON that is no object', 'json', 'null', undefined],
    ['text', 'txt', ' a dog\r\n', 'a dog'],
    ['a long text', 'txt', '👍'.repeat(9000), '👍'.repeat(5000)],
    ['an empty text', 'txt', ' ', undefined],
  ])('of %s', (_, kind, text, expected) => {
    expect(sidecarCaption(kind, Buffer.from(text))).toBe(expected)
  })

  it.each<['xmp' | 'json' | 'txt', string]>([
    ['txt', 'Café 狗\r\n'],
    ['json', '{"description": "Café 狗"}'],
    ['xmp', `<?xml version="1.0" encoding="UTF-16"?>${xmp('Café 狗')}`],
  ])('of a file of kind %s in UTF-16, by its byte order mark', (kind, text) => {
    const bytes = Buffer.from(`\ufeff${text}`, 'utf16le')
    expect(sidecarCaption(kind, bytes)).toBe('Café 狗')
    expect(sidecarCaption(kind, Buffer.from(bytes).swap16())).toBe('Café 狗')
    expect(() => sidecarCaption(kind, bytes.subarray(2))).toThrow()
  })

  it('of an XMP with entities that grow does not expand them', () => {
    const entities = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    const bytes = Buffer.from(`<?xml version="1.0"?>${entities}${xmp('&b;')}`)
    let caption: string | undefined
    try {
      caption = sidecarCaption('xmp', bytes)
    } catch {
      // Refused as a whole.
    }
    expect(caption?.length ?? 0).toBeLessThan(10)
  })
})
