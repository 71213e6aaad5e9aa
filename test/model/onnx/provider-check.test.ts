/** Who computed a graph, as the runtime's own profile tells it. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { providerFault } from '../../../src/model/onnx/provider-check.js'

vi.setConfig({ testTimeout: 60_000 })

interface Run {
  operator: string
  provider: string
  gives?: Record<string, number[]>
}

/** A profile with those runs of nodes, and the other events that a real one has. */
function profileOf(...runs: Run[]): string {
  const events = runs.map(({ operator, provider, gives = { float: [2, 8] } }) => ({
    cat: 'Node',
    name: `${operator}_kernel_time`,
    args: { op_name: operator, provider, output_type_shape: [gives] },
  }))
  const others = [
    { cat: 'Session', name: 'session_initialization', args: {} },
    { cat: 'Node', name: 'MatMul_fence_before', args: { op_name: 'MatMul' } },
  ]
  return JSON.stringify([...others, ...events])
}

const cuda = (operator: string): Run => ({ operator, provider: 'CUDAExecutionProvider' })
const cpu = (operator: string, gives?: Record<string, number[]>): Run =>
  gives === undefined
    ? { operator, provider: 'CPUExecutionProvider' }
    : { operator, provider: 'CPUExecutionProvider', gives }

describe('a profile', () => {
  it('passes where the provider did all of it', () => {
    expect(providerFault(profileOf(cuda('MatMul'), cuda('Softmax')), 'cuda')).toBe(null)
  })

  it('passes where integers, and single floats, were counted on the CPU', () => {
    const counted = [
      cpu('Shape', { int64: [3] }),
      cpu('Concat', { int64: [4] }),
      cpu('Sqrt', { float: [] }),
    ]
    expect(providerFault(profileOf(cuda('MatMul'), ...counted), 'cuda')).toBe(null)
  })

  it('fails where the CPU computed any of it, and names what', () => {
    const profile = profileOf(cuda('MatMul'), cpu('Erf'), cpu('LayerNormalization'), cpu('Erf'))
    expect(providerFault(profile, 'cuda')).toBe(
      'ran 3 of its 4 operators elsewhere than on cuda: Erf × 2, LayerNormalization × 1',
    )
  })

  it('fails where the CPU computed all of it, which is the silent fall-back', () => {
    expect(providerFault(profileOf(cpu('MatMul')), 'cuda')).toBe('ran no operator on cuda')
    expect(providerFault(profileOf(), 'cuda')).toBe('ran no operator on cuda')
  })

  it('passes for tensorrt where cuda took what it left, and fails where it took all', () => {
    const compiled = { operator: 'TRTKernel_graph_1', provider: 'TensorrtExecutionProvider' }
    expect(providerFault(profileOf(compiled, cuda('TopK')), 'tensorrt')).toBe(null)
    expect(providerFault(profileOf(cuda('MatMul')), 'tensorrt')).toBe('ran no operator on tensorrt')
    expect(
      providerFault(
        profileOf(compiled, cpu('NonZero'), cpu('Erf', { float16: [2, 8] })),
        'tensorrt',
      ),
    ).toMatch(/ran 2 of its 3/)
  })

  it('names the five most frequent operators', () => {
    const strays = ['A', 'B', 'C', 'D', 'E', 'F', 'F'].map((operator) => cpu(operator))
    expect(providerFault(profileOf(cuda('MatMul'), ...strays), 'cuda')).toMatch(
      /: F × 2, A × 1, B × 1, C × 1, D × 1, …$/,
    )
  })
})

describe('a profile of the runtime', () => {
  let folder: string
  let profile: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tandem-profile-'))
    const graph = fileURLToPath(
      new URL('../../fixtures/tiny-bundle/image-encoder.onnx', import.meta.url),
    )
    const session = await InferenceSession.create(graph, {
      enableProfiling: true,
      profileFilePrefix: join(folder, 'run'),
    })
    await session.run({
      pixels: new Tensor('uint8', new Uint8Array(2 * 32 * 32 * 3), [2, 32, 32, 3]),
    })
    session.endProfiling()
    const [name = ''] = await readdir(folder)
    profile = await readFile(join(folder, name), 'utf8')
  })

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true })
  })

  it('says that the CPU computed on the CPU', () => {
    expect(providerFault(profile, 'cpu')).toBe(null)
  })

  it('does not pass for that of a GPU', () => {
    expect(providerFault(profile, 'cuda')).toBe('ran no operator on cuda')
    expect(
      providerFault(profile.replace('CPUExecutionProvider', 'CUDAExecutionProvider'), 'cuda'),
    ).toMatch(/ran \d+ of its \d+ operators elsewhere/)
  })
})
