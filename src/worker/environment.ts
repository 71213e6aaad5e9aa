/**
 * What a worker inherits of the service's environment and of Node's options.
 *
 * Untrusted bytes reach native code in a worker, so it gets no secrets: only variables that are
 * listed here, and no `--env-file`.
 */

const NAMES: readonly string[] = [
  'PATH',
  'HOME',
  'TMPDIR',
  'TMP',
  'TEMP',
  'TZ',
  'TZDIR',
  'LANG',
  'LANGUAGE',
  'GLIBC_TUNABLES',
  // Not NODE_*: NODE_AUTH_TOKEN is a secret of npm.
  'NODE_ENV',
  'NODE_OPTIONS',
  'NODE_PATH',
  'NODE_V8_COVERAGE',
  'NODE_COMPILE_CACHE',
]
/** The loader, the allocator, the thread pools, the runtime and the GPU. */
const PREFIXES = /^(?:LC|LD|MALLOC|UV|OMP|GOMP|KMP|MKL|ORT|CUDA|CUDNN|CUBLAS|NVIDIA|VIPS)_/

/** The variables that workers need. */
export function inheritedVariables(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => NAMES.includes(name) || PREFIXES.test(name)),
  )
}

/** Options of Node without `--env-file` and `--env-file-if-exists`, in either spelling. */
export function inheritedOptions(execArgv: readonly string[]): string[] {
  const isEnvFile = (option: string | undefined): boolean =>
    option !== undefined && /^--env-file(?:-if-exists)?(?:=|$)/.test(option)
  return execArgv.filter((option, at) => {
    const before = execArgv[at - 1]
    return !isEnvFile(option) && !(isEnvFile(before) && before?.includes('=') === false)
  })
}
