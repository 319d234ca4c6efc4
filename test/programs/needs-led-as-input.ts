import { robot } from 'medulla'

robot({ led: 'input' }, ({ led }) => {
  led.onEdge(() => {})
})
