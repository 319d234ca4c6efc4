/** What `medulla uninstall` takes back: everything that `medulla install` made, but for the robot's home. */
import type { InstallPlan, InstallStep } from '../../deploy/shared/install.ts'
import { withoutOurs, withoutWords } from './bootfiles.ts'
import {
  DISCOVERY,
  GROUPS_FILE,
  HOME,
  MODULES_FILE,
  RECORD,
  RULES_FILE,
  SERVICE,
  SOCKET,
  WANTS,
  WATCHDOG_FILE,
} from './paths.ts'
import { agreementOf, checkSystem, hasSystemd } from './plan.ts'
import { Tree } from './tree.ts'

/** `purge`: the home too, with the robot's identity and its programs. The units come first: nothing starts the robot then. */
export function planUninstall({ root, purge }: { root: string; purge: boolean }): InstallPlan {
  checkSystem({ root, fromPackage: true }, 'medulla uninstall')
  const tree = new Tree(root)
  const steps = [
    ...WANTS.map(({ path }) => gone(tree, path, 'link')),
    ...[SERVICE, SOCKET, DISCOVERY, RULES_FILE, GROUPS_FILE, MODULES_FILE].map((path) => gone(tree, path, 'file')),
    ...bootSteps(tree),
    { ...gone(tree, WATCHDOG_FILE, 'file'), consent: true },
    { ...gone(tree, RECORD, 'file'), consent: true },
    ...(purge ? [gone(tree, HOME, 'folder')] : []),
  ]
  const systemd = tree.root === '/' && hasSystemd()
  const notes = purge || !tree.has(HOME) ? [] : [`${HOME} stays: the robot's identity, operators and programs`]
  return { root: tree.root, steps, findings: [], agreement: agreementOf(steps), systemd, operators: 0, notes }
}

function gone(tree: Tree, path: string, kind: 'file' | 'link' | 'folder'): InstallStep {
  const there = kind === 'folder' ? tree.isFolder(path) : tree.has(path)
  const before = kind === 'file' ? tree.text(path) : kind === 'link' ? tree.link(path) : null
  const what = kind === 'folder' ? "the robot's identity, operators, programs and receipts" : 'no longer needed'
  return {
    about: [],
    path,
    kind,
    change: there ? 'remove' : 'keep',
    before,
    after: null,
    mode: 0,
    consent: false,
    what,
  }
}

function bootSteps(tree: Tree): InstallStep[] {
  return ['/boot/firmware', '/boot'].flatMap((folder) => [
    without(tree, `${folder}/config.txt`, withoutOurs),
    without(tree, `${folder}/cmdline.txt`, (text) => withoutWords(text, ourWords(tree))),
  ]).flat() // biome-ignore format: one call
}

function without(tree: Tree, path: string, edit: (text: string) => string): InstallStep[] {
  const before = tree.text(path)
  if (before === null) return []
  const after = edit(before)
  const change = after === before ? 'keep' : 'change'
  return [{ about: [], path, kind: 'file', change, before, after, mode: null, consent: true, what: 'as it was before' }]
}

function ourWords(tree: Tree): string[] {
  try {
    const { cmdline } = JSON.parse(tree.text(RECORD) ?? '{}') as { cmdline?: unknown }
    return Array.isArray(cmdline) ? cmdline.filter((word) => typeof word === 'string') : []
  } catch {
    return []
  }
}
