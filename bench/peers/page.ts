/** The section of docs/benchmarks.md. */
import {
  isTwiceAsMuch,
  MOST_FAILED,
  slowness,
  type Compared,
  type Figures,
  type OfWorkload,
} from './figures.js'
import type { Loaded } from './measure.js'
import { BARE_ROWS } from './runtime.js'

const PROGRAMS = '[bench/peers](../bench/peers)'

export function page({
  clients,
  seconds,
  rounds,
  corpus,
  agreement,
  versions,
  left_out: leftOut,
  workloads,
}: Figures): string {
  const { items, dim, ef, recalls } = corpus
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
  const found = Object.entries(recalls).map(([name, recall]) => `${percent(recall)} by ${name}`)
  const cosines = Object.entries(agreement).map(
    ([name, { text, image }]) =>
      `${name} ${(text ?? Number.NaN).toFixed(5)} for texts${image === undefined ? '' : ` and ${image.toFixed(4)} for photos`}`,
  )
  return [
    `Each peer is given the bundle's own graphs and tokenizer, and divides the cores in the way that answers most; the
programs are in ${PROGRAMS}. The least cosine of their embeddings and Tandem's: ${cosines.join(', ')}. The search is over
${items} items of ${dim} dimensions, photos extended by noise, without rerank; of the ten that
exact search finds, ${found.join(', ')} are found (the peers with ef ${ef}). Saturation is what ${clients} clients get
answered that ask one after the other; other loads arrive at random times, also while replies are pending, and a time counts
from the moment a request was due. The last column is the ratio that a service would have which spent nothing beside the
runtime: texts in batches of ${BARE_ROWS}, photos decoded and encoded, in a process of one thread for each core. Each load lasts ${seconds} s, or longer for photos, ${rounds === 1 ? 'once' : `${rounds} times in turns`}.`,
    saturations(workloads),
    latencies(workloads),
    doubles(workloads),
    ...Object.entries(versions).map(
      ([name, packages]) => `Packages of ${name}: ${packages.join(', ')}.`,
    ),
    TRIED,
    ...leftOut,
  ].join('\n\n')
}

const TRIED = `infinity (infinity-emb 0.0.78) is given the text graph with its embedding as the only hidden state, which CLS pooling takes as
it is; with the newest optimum (2.1) it does not find a graph in a local folder, with the pinned one it does. For photos it knows
models of the CLIP family alone, and the bundle is none. clip-as-service (clip-server) was not installed: pip tried one
version of jina after the other, and was ended after half an hour. clip-retrieval installs, though it needs an older setuptools to start, and takes its
models by name from OpenAI CLIP, open_clip, Hugging Face, Japanese CLIP and deepsparse, and no graph of another architecture.`

function saturations(workloads: readonly OfWorkload[]): string {
  const rows = workloads.flatMap(({ title, saturation, bare, peers }) =>
    peers.map((peer) => {
      const times = (rate: number): string => `${(rate / peer.saturation.answered).toFixed(2)} ×`
      const { answered } = saturation
      return [
        title,
        peer.title,
        divided(peer),
        peer.saturation.answered,
        answered,
        times(answered),
        bare === null ? '' : times(bare),
      ]
    }),
  )
  return table(
    [
      'At saturation',
      'peer',
      'its processes × runs × threads',
      'peer, a second',
      'Tandem, a second',
      'ratio',
      'of the bare runtime',
    ],
    rows,
  )
}

function latencies(workloads: readonly OfWorkload[]): string {
  const rows = workloads.flatMap(({ title, peers }) =>
    peers.flatMap((peer) =>
      peer.loads.map((load) => [
        title,
        peer.name,
        `${100 * load.share} %, ${load.peer.offered}/s`,
        `${load.peer.p50} / ${p99(load.peer)}`,
        `${load.tandem.p50} / ${p99(load.tandem)}`,
        slowness(load).toFixed(2),
      ]),
    ),
  )
  return table(
    [
      'At equal load',
      'peer',
      'of its saturation',
      'peer, p50 / p99 ms',
      'Tandem, p50 / p99 ms',
      'p99, Tandem : peer',
    ],
    rows,
  )
}

function doubles(workloads: readonly OfWorkload[]): string {
  const rows = workloads.flatMap(({ title, peers }) =>
    peers.map((peer) => {
      const { twice } = peer
      return [
        title,
        peer.name,
        `${twice.peer.offered}/s`,
        p99(twice.peer),
        `${twice.tandem.offered}/s`,
        p99(twice.tandem),
        isTwiceAsMuch(peer) ? 'yes' : 'no',
      ]
    }),
  )
  return table(
    ['Twice the load', 'peer', 'peer at', 'p99 ms', 'Tandem at', 'p99 ms', 'no slower'],
    rows,
  )
}

function divided({ division: { processes, atOnce, threads } }: Compared): string {
  return `${processes} × ${atOnce} × ${threads}`
}

function p99({ p99: milliseconds, failed }: Loaded): string {
  return failed > MOST_FAILED
    ? `${milliseconds} (${(100 * failed).toFixed(0)} % failed)`
    : String(milliseconds)
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  return [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
}
