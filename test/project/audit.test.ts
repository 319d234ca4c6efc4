/** What an auditor of a push has to read: the list and its line counts in the README are those of the code. */
import { expect, test } from 'vitest'
import { sources, text } from './tree.ts'

/** From the first byte of a stranger to the exec of a pushed program, in this order. */
const PATH: Readonly<Record<string, readonly string[]>> = {
  'deploy/shared/channel/': ['accept', 'admission', 'frame', 'freshkeys', 'handshake', 'listener', 'netsocket', 'noise', 'pairaccept', 'pairing', 'serve', 'socket', 'spake2', 'x25519', 'yamux', 'yamuxheader', 'yamuxstream'],
  'runtime/endpoint/': ['app', 'bodylink', 'call', 'discovery', 'main', 'messages', 'ndjson', 'opener', 'opener-thread', 'operators', 'pairing', 'push', 'sessions', 'staging'],
  'deploy/shared/bundle/': ['bech32', 'buildstatement', 'h1', 'inner', 'limits', 'manifest', 'open', 'params', 'payload', 'policy', 'release', 'runtimepackage', 'seal', 'sshsig', 'strict', 'tar'],
  'runtime/store/': ['atomic', 'builds', 'bundles', 'entry', 'liststate', 'operators', 'record', 'verifier', 'verifierworker'],
  'runtime/': ['body/update/updates', 'start', 'store/runtimes'],
  'runtime/body/': ['endpoint/endpointlink', 'endpoint/endpointprocess', 'endpoint/peer', 'orders/delegations', 'orders/execute', 'orders/installer', 'orders/orders', 'sandbox/child', 'sandbox/confinement', 'sandbox/launcher', 'sandbox/privateroot',
    'sandbox/process', 'sandbox/sandboxes', 'sandbox/uids', 'slot/runnables'],
  'deploy/shared/': ['linesplitter'],
  'runtime/plumbing/': ['boundedworker', 'lines'],
  'runtime/sdk/': ['bpf', 'confined', 'loader', 'seccomp', 'seccomp-tables'],
} // biome-ignore format: a list of files

/** Of these folders every file is on the path, or here with the reason why it is not. */
const WHOLE: Readonly<Record<string, string>> = {
  'deploy/shared/channel/connect.ts': "the laptop's side",
  'deploy/shared/channel/index.ts': 'names of the others',
  'deploy/shared/channel/pairconnect.ts': "the laptop's side",
  'runtime/endpoint/log.ts': 'what is written of strangers',
}

/** Neither blank nor comment; rounded up to hundreds, so that the table need not follow every line. */
function hundreds(files: readonly string[]): number {
  const lines = files.flatMap((file) => text(file).split('\n'))
  const code = lines.filter((line) => !/^\s*(?:\/\/.*|\/?\*.*)?$/.test(line))
  return Math.ceil(code.length / 100) * 100
}

test('P13: the code between socket and exec is what deploy/README.md lists, with its line counts', () => {
  const counts = Object.entries(PATH).map(([folder, names]): [string, number] => {
    return [
      `\`${folder}\` ${names.map((name) => `\`${name}\``).join(', ')}`,
      hundreds(names.map((name) => `${folder}${name}.ts`)),
    ]
  })
  const total = counts.reduce((sum, [, count]) => sum + count, 0)
  const [, section = ''] = text('deploy/README.md').split('## What stands between the socket and exec\n')
  const table = section.split('\n').flatMap((line) => {
    const cells = line.split('|').map((cell) => cell.trim())
    return /^\d[\d,]*$/.test(cells[3] ?? '') ? [[cells[2] ?? '', Number(cells[3]?.replace(',', ''))]] : []
  })
  expect(table).toEqual([...counts, ['together', total]])
})

test('P13: no file of the folders that read what strangers send is left out of the list', () => {
  for (const folder of ['deploy/shared/channel/', 'runtime/endpoint/', 'deploy/shared/bundle/']) {
    const listed = (PATH[folder] ?? []).map((name) => `${folder}${name}.ts`)
    const other = Object.keys(WHOLE).filter((path) => path.startsWith(folder))
    expect(sources([folder.slice(0, -1)]).sort()).toEqual([...listed, ...other].sort())
  }
})
