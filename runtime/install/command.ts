/** `main.js install|uninstall plan|apply`: prints one InstallPlan, or Applied, as JSON. */
import { Refusal } from '../../deploy/shared/errors.ts'
import type { Applied, InstallPlan } from '../../deploy/shared/install.ts'
import { apply } from './apply.ts'
import { planInstall } from './plan.ts'
import { planUninstall } from './uninstall.ts'

export interface InstallArguments {
  root?: string | undefined
  board?: string | undefined
  card?: string | undefined
  name?: string | undefined
  agreed?: string | undefined
  only?: string | undefined
  'from-package'?: boolean
  purge?: boolean
}

export async function installCommand(
  command: 'install' | 'uninstall',
  what: string | undefined,
  values: InstallArguments,
): Promise<InstallPlan | Applied> {
  if (what !== 'plan' && what !== 'apply') throw new Refusal('usage', `expected ${command} plan or ${command} apply`)
  const { root = '/', board, card, name, agreed = null, only } = values
  const operator = card === undefined ? {} : { operator: card }
  const operatorName = name === undefined ? {} : { operatorName: name }
  const plan =
    command === 'uninstall'
      ? planUninstall({ root, purge: values.purge === true })
      : await planInstall({
          root,
          ...(board === undefined ? {} : { board }),
          ...operator,
          ...operatorName,
          fromPackage: values['from-package'] === true,
          only: only === undefined ? null : only.split(','),
        })
  return what === 'plan' ? plan : apply(plan, { agreed, ...operator, ...operatorName })
}
