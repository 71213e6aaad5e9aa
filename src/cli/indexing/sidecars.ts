/** Files of captions beside images: `a.jpg.xmp`, `a.xmp`, and the same with .json and .txt. */
import type { SidecarKind } from './metadata.js'

/** The first one is taken. */
const KINDS: readonly SidecarKind[] = ['xmp', 'json', 'txt']
/** Also the exports of Google Photos: `a.jpg.supplemental-metadata.json`, shortened if long. */
const SIDECAR = /^(.+?)(?:\.suppl[a-z-]*)?\.(xmp|json|txt)$/i
const IMAGE_NAME = /^(.+)\.[^.]+$/

/** The sidecars among the files of one folder. Names are compared as bytes. */
export class Sidecars {
  readonly #byBase = new Map<string, { name: Buffer; kind: SidecarKind }>()
  readonly #bases: ReadonlySet<string>

  constructor(names: readonly Buffer[], isImage: (name: string) => boolean) {
    const bases = new Set<string>()
    for (const name of names) {
      const text = name.toString('latin1')
      if (isImage(text)) for (const base of basesOf(text)) bases.add(base)
      const [, base, ending] = SIDECAR.exec(text) ?? []
      if (base === undefined || ending === undefined) continue
      const kind = ending.toLowerCase() as SidecarKind
      this.#byBase.set(`${kind} ${base}`, { name, kind })
    }
    this.#bases = bases
  }

  /** That of an image. */
  of(image: Buffer): { name: Buffer; kind: SidecarKind } | undefined {
    const bases = basesOf(image.toString('latin1'))
    for (const kind of KINDS)
      for (const base of bases) {
        const found = this.#byBase.get(`${kind} ${base}`)
        if (found !== undefined) return found
      }
    return undefined
  }

  /** Whether a file is the sidecar of an image of the folder. */
  isOfAnImage(name: Buffer): boolean {
    const base = SIDECAR.exec(name.toString('latin1'))?.[1]
    return base !== undefined && this.#bases.has(base)
  }
}

/** What the name of a sidecar may begin with. */
function basesOf(image: string): string[] {
  return [image, IMAGE_NAME.exec(image)?.[1] ?? image]
}
