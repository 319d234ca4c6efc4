import { expect, test } from 'vitest'
import { imports, loaded, sources, text } from './tree.ts'

interface Ban {
  in: RegExp
  import: RegExp
  because: string
}

const OURS = '(?:drivers|deploy|runtime|robots|test)/'
const OUTSIDE = /^node:(?:fs|fs\/promises|net|http|child_process|dgram|tls|timers|timers\/promises|os)$/

/** One way: drivers and deploy know nobody, runtime joins them, robots see what an outside user sees. */
const BANS: readonly Ban[] = [
  {
    in: /^drivers\//,
    import: new RegExp(`^(?!drivers/)${OURS}`),
    because: 'a driver works without this runtime: it knows pins, not programs or bundles',
  },
  {
    in: /^deploy\//,
    import: new RegExp(`^(?!deploy/)${OURS}`),
    because: 'a laptop needs no robot side; what it asks of it, it asks over the wire or of the runtime process',
  },
  {
    in: /^deploy\/shared\//,
    import: /^deploy\/laptop\//,
    because: 'both ends have it, and a robot has no command line and builds no programs',
  },
  {
    in: /^deploy\/laptop\/(?!cli\/)/,
    import: /^deploy\/laptop\/cli\//,
    because: 'it is a library, too (medulla/client): it must not print, nor know the terminal',
  },
  {
    // the loader is no part of any program: it may look up the places of their errors
    in: /^runtime\/sdk\/(?!loader\.ts$)/,
    import: new RegExp(`^(?!runtime/sdk/|drivers/)${OURS}`),
    because: 'it is bundled into every robot program: nothing of keys, network or supervision belongs there',
  },
  {
    // the test kit runs programs as they lie on a laptop: it bundles them
    in: /^runtime\/(?!testkit\/)/,
    import: /^deploy\/laptop\//,
    because: 'a robot does not build programs and has no command line',
  },
  {
    in: /^(?:drivers|deploy|runtime)\//,
    import: /^(?:test|robots)\//,
    because: 'the product does not contain its tests or its examples',
  },
  {
    in: /^robots\/(?!.*\.test\.ts$)/,
    // and what npm has for them: the package.json of each names it
    import: /^(?!medulla$|medulla\/drivers$|robots\/|node:http$|ws$|mqtt$)/,
    because: 'programs are written as an outside user writes them',
  },
  {
    in: /^robots\/.*\.test\.ts$/,
    import: /^(?!medulla$|medulla\/(?:drivers|test)$|vitest$|node:|robots\/|ws$|aedes$)/,
    because: 'so are their tests',
  },
  {
    in: /^(?:runtime\/sdk\/|drivers\/program\/)/,
    import: /^zod/,
    because: 'it is in every robot program, and zod alone takes 100 ms to load',
  },
  {
    in: /^drivers\/(?:program|board)\//,
    import: /^drivers\/owner\//,
    because: 'a program opens nothing, and a board file is read where there is no hardware',
  },
  {
    in: /^deploy\/shared\/(?:bundle\/|channel\/(?:noise|frame|handshake|pairing|spake2|x25519)\.ts$)|^runtime\/body\/slot\/lifecycle\.ts$/,
    import: OUTSIDE,
    because: 'protocol code is pure: bytes in, bytes out, no files, no network, no clock',
  },
  {
    in: /^deploy\/laptop\/cli\/(?!program\.ts$)/,
    import: /^(?:esbuild$|deploy\/laptop\/build)/,
    because: 'esbuild is loaded when something is built, and only then',
  },
  {
    in: /^deploy\/(?!laptop\/cli\/saves\.ts$)/,
    import: /^chokidar$/,
    because: 'it is loaded when files are watched, and only then',
  },
]

test('imports point one way', () => {
  const wrong: string[] = []
  for (const path of sources()) {
    for (const from of imports(path)) {
      for (const ban of BANS) {
        if (ban.in.test(path) && ban.import.test(from)) wrong.push(`${path} imports ${from}: ${ban.because}`)
      }
    }
  }
  expect(wrong).toEqual([])
})

/** Everything that `from` imports, and what that imports; with `types` what is there for types alone, too. */
function closure(from: readonly string[], of: (path: string) => readonly string[]): Set<string> {
  const found = new Set<string>()
  const look = [...from]
  for (let path = look.pop(); path !== undefined; path = look.pop()) {
    if (found.has(path)) continue
    found.add(path)
    if (path.endsWith('.ts')) look.push(...of(path))
  }
  return found
}

test('no file of the product imports itself over others, types included', () => {
  const files = sources(['drivers', 'deploy', 'runtime'])
  const known = new Set(files)
  const circles = files.filter((path) =>
    closure(imports(path), (each) => (known.has(each) ? imports(each) : [])).has(path),
  )
  expect(circles).toEqual([])
})

test('what is bundled into a program, and its loader, load no package but koffi', () => {
  const entries = ['runtime/sdk/index.ts', 'drivers/index.ts', 'runtime/sdk/loader.ts']
  const packages = [...closure(entries, loaded)].filter((path) => !path.endsWith('.ts') && !path.startsWith('node:'))
  expect(packages).toEqual([])
})

test('the scan sees every form of import', () => {
  const seen = imports('deploy/laptop/cli/main.ts')
  expect(seen).toContain('commander')
  expect(seen).toContain('deploy/shared/errors.ts')
  expect(seen).toContain('deploy/laptop/cli/overview.ts') // dynamic
})

test('Y9: one file signs and verifies: deploy/shared/bundle/sshsig.ts', () => {
  const signing =
    /import \{[^}]*\b(?:sign|verify|createSign|createVerify|subtle|webcrypto)\b[^}]*\}\s*from 'node:crypto'|import \* as \w+ from 'node:crypto'|\bcrypto\.(?:subtle|sign|verify)\b|from '@noble\/curves(?!\/nist\.js')/
  const found = sources(['drivers', 'deploy', 'runtime']).filter((path) => signing.test(code(path)))
  expect(found).toEqual(['deploy/shared/bundle/sshsig.ts'])
})

test('Y9: P-256 is there for pairing codes: one file imports it, and takes nothing of it that signs or verifies', () => {
  const found = sources(['drivers', 'deploy', 'runtime']).filter((path) => code(path).includes("'@noble/curves"))
  expect(found).toEqual(['deploy/shared/channel/spake2.ts'])
  expect(code('deploy/shared/channel/spake2.ts').match(/\bp256\b[^'\n]*/g)).toEqual(['p256 } from ', 'p256'])
})

test('only term.ts prints in deploy/', () => {
  const printing = /\bconsole\.|\bprocess\.(?:stdout|stderr)\.write\(/
  const wrong = sources(['deploy']).filter((path) => path !== 'deploy/laptop/cli/term.ts' && printing.test(code(path)))
  expect(wrong).toEqual([])
})

function code(path: string): string {
  return text(path).replace(/^\s*(\/\/|\*|\/\*).*$/gm, '')
}
