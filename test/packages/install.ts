/** The packages of this folder, as its lock file says, without running a script of theirs: installed by the first test that asks. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const HERE = fileURLToPath(new URL('.', import.meta.url))
/** Not in the tree, whose tests look at every file. */
const THERE = fileURLToPath(new URL('../../node_modules/.medulla-packages/', import.meta.url))
const MODULES = join(THERE, 'node_modules')
const RECORD = join(MODULES, '.medulla.json')

/** The folder whose node_modules has them. */
export function installedPackages(): string {
  const wanted = createHash('sha256')
    .update(readFileSync(join(HERE, 'package-lock.json')))
    .digest('hex')
  if (existsSync(RECORD) && readFileSync(RECORD, 'utf8') === wanted) return THERE
  // beside, then moved: what was interrupted is not taken for whole
  const beside = mkdtempSync(join(tmpdir(), 'medulla-packages-'))
  try {
    for (const name of ['package.json', 'package-lock.json']) cpSync(join(HERE, name), join(beside, name))
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel', 'error'], {
      cwd: beside,
      stdio: ['ignore', 'ignore', 'inherit'],
      shell: process.platform === 'win32',
    })
    writeFileSync(join(beside, 'node_modules', '.medulla.json'), wanted)
    rmSync(MODULES, { recursive: true, force: true })
    mkdirSync(THERE, { recursive: true })
    try {
      renameSync(join(beside, 'node_modules'), MODULES)
    } catch {
      // on another file system
      cpSync(join(beside, 'node_modules'), MODULES, { recursive: true, verbatimSymlinks: true })
    }
  } finally {
    rmSync(beside, { recursive: true, force: true })
  }
  return THERE
}
