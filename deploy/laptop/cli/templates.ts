/** Makes the folders of `medulla new` from the examples in robots/: program, test, board and scenario. */
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Refusal } from '../../shared/errors.ts'
import { PACKAGE, ROBOTS } from './paths.ts'

export interface Template {
  about: string
  /** Folder in robots/. */
  folder: string
  board: string
  /** Handles that the program asks for: name to kind. */
  needs: Readonly<Record<string, string>>
}

const WHEELS = { leftPwm: 'pwm', leftDirection: 'output', rightPwm: 'pwm', rightDirection: 'output' }

export const TEMPLATES: Readonly<Record<string, Template>> = {
  blink: { about: 'blinks a led', folder: 'template', board: 'template/board.json', needs: { led: 'output' } },
  arm: {
    about: 'four servos and a button',
    folder: 'arm',
    board: 'arm/board.json',
    needs: { base: 'servo', shoulder: 'servo', elbow: 'servo', gripper: 'servo', button: 'input' },
  },
  balance: {
    about: 'stands on two wheels, with an IMU',
    folder: 'balance',
    board: 'balance/board.json',
    needs: { ...WHEELS, imu: 'i2c' },
  },
  'line-follower': {
    about: 'two motors and a line sensor',
    folder: 'line-follower',
    board: 'line-follower/board.json',
    needs: { ...WHEELS, bar: 'i2c' },
  },
  weather: {
    about: 'a BME280 and a display',
    folder: 'weather',
    board: 'weather/board.json',
    needs: { sensor: 'i2c', display: 'i2c', button: 'input' },
  },
  web: {
    about: 'a lamp with a web page',
    folder: 'web',
    board: 'web/board.json',
    needs: { lamp: 'pwm', button: 'input', web: 'listen' },
  },
}

/** The first template whose program finds all of its handles on this board; null if there is none. */
export function templateFor(handles: readonly { name: string; kind: string }[]): string | null {
  const fits = ({ needs }: Template) =>
    Object.entries(needs).every(([name, kind]) => handles.some((each) => each.name === name && each.kind === kind))
  return Object.entries(TEMPLATES).find(([, template]) => fits(template))?.[0] ?? null
}

/** Writes the files of a program, and returns their names. Throws Refusal when the folder is not empty. */
export async function makeProgram(folder: string, name: string, from: Template): Promise<string[]> {
  await mkdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new Refusal('usage', `${folder} cannot be made: ${error.code}`, 'choose another name')
  })
  if ((await readdir(folder)).length > 0) throw new Refusal('usage', `${folder} is not empty`, 'choose another name')
  const example = await filesOf(from, name)
  const files = { ...example, ...(await projectFiles(name, example['package.json'])) }
  for (const [file, text] of Object.entries(files)) await writeFile(join(folder, file), text, { flag: 'wx' })
  return Object.keys(files)
}

async function filesOf({ folder, board }: Template, name: string): Promise<Record<string, string>> {
  const files: Record<string, string> = { 'board.json': await readFile(join(ROBOTS, board), 'utf8') }
  for (const file of await readdir(join(ROBOTS, folder))) {
    // A new program records its own modules (BUNDLE 15).
    if (file === 'medulla.sum') continue
    const path = join(ROBOTS, folder, file)
    if (!(await stat(path)).isFile()) continue
    const text = await readFile(path, 'utf8')
    // only the program in template/ has its own name in its text
    files[file] = folder === 'template' ? text.replaceAll('template', name) : text
  }
  return files
}

/** package.json (with the dependencies of the example's own package.json), tsconfig.json and .gitignore. */
async function projectFiles(name: string, example = '{}'): Promise<Record<string, string>> {
  const { devDependencies } = JSON.parse(await readFile(PACKAGE, 'utf8')) as { devDependencies: Record<string, string> }
  const own = JSON.parse(example) as Partial<Record<'dependencies' | 'devDependencies', Record<string, string>>>
  const tools = ['@types/node', 'typescript', 'vitest'].map((tool) => [tool, devDependencies[tool] ?? 'latest'])
  const project = {
    name,
    version: '1.0.0',
    private: true,
    type: 'module',
    main: 'program.ts',
    scripts: { test: 'vitest run', types: 'tsc' },
    // this installation of medulla; `npm install` makes a link to it
    dependencies: { medulla: `file:${dirname(PACKAGE)}`, ...own.dependencies },
    devDependencies: { ...(Object.fromEntries(tools) as Record<string, string>), ...own.devDependencies },
  }
  const compilerOptions = {
    target: 'es2023',
    module: 'nodenext',
    strict: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    skipLibCheck: true,
    types: ['node'],
  }
  return {
    'package.json': `${JSON.stringify(project, null, 2)}\n`,
    'tsconfig.json': `${JSON.stringify({ compilerOptions, include: ['*.ts'] }, null, 2)}\n`,
    '.gitignore': 'node_modules/\n*.medulla\n*.vcd\n',
  }
}
