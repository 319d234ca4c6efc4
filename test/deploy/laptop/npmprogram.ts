/** A program with two npm packages and a lock file, made in a temporary folder without a registry. */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run, tempFolder } from '../../fixtures/tools.ts'

/** The small library of the fixtures, so that a build takes little time. */
export const LIBRARY = {
  sdk: fileURLToPath(new URL('fixtures/sdk.ts', import.meta.url)),
  drivers: fileURLToPath(new URL('fixtures/drivers.ts', import.meta.url)),
}

/** `tiny` is imported by the program, and imports `@deep/er`. */
export const TINY = {
  'package.json':
    '{"name":"tiny","version":"1.2.3","type":"module","main":"index.js","dependencies":{"@deep/er":"2.0.0"}}\n',
  'index.js': "import { led } from '@deep/er'\nexport default led\n",
  LICENSE: 'MIT\n',
}
export const DEEPER = {
  'package.json': '{"name":"@deep/er","version":"2.0.0","type":"module","main":"lib/led.js"}\n',
  'lib/led.js': "export const led = 'led'\n",
}

export function write(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
  }
}

const under = (folder: string, files: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`${folder}/${name}`, text]))

/** As npm writes it; a fixed value stands for the hash of a downloaded package. */
export const integrityOf = (text: string): string => `sha512-${createHash('sha512').update(text).digest('base64')}`

export function npmProgram(): string {
  const folder = tempFolder()
  const locked = (version: string, of: string) => ({ version, integrity: integrityOf(of) })
  write(folder, {
    'package.json': '{"name":"@me/rover","version":"3.1.0","type":"module","dependencies":{"tiny":"1.2.3"}}\n',
    'package-lock.json': `${JSON.stringify({
      name: '@me/rover',
      version: '3.1.0',
      lockfileVersion: 3,
      packages: {
        '': { name: '@me/rover', version: '3.1.0', dependencies: { tiny: '1.2.3' } },
        'node_modules/@deep/er': locked('2.0.0', 'deeper'),
        'node_modules/tiny': { ...locked('1.2.3', 'tiny'), dependencies: { '@deep/er': '2.0.0' } },
      },
    })}\n`,
    'program.ts': "import { robot } from 'medulla'\nimport led from 'tiny'\nrobot({ [led]: 'output' }, () => {})\n",
    '.gitignore': 'node_modules\n',
    ...under('node_modules/tiny', TINY),
    ...under('node_modules/@deep/er', DEEPER),
  })
  return folder
}

/** Makes a repository of the folder, with one commit of everything that is not ignored. Returns the commit. */
export function committed(folder: string): string {
  run(folder, 'git', ['init', '--quiet', '.'])
  return commit(folder)
}

export function commit(folder: string): string {
  const who = ['-c', 'user.name=A Tester', '-c', 'user.email=tester@example.org', '-c', 'commit.gpgSign=false']
  run(folder, 'git', ['add', '--all'])
  run(folder, 'git', [...who, 'commit', '--quiet', '--message', 'a commit', '--date', '2026-01-02T03:04:05Z'])
  return run(folder, 'git', ['rev-parse', 'HEAD']).trim()
}
