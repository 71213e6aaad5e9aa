import { mutatedRequests } from './requests.js'
import { runCampaign } from './campaign.js'
const n = Number(process.argv[2])
const t = performance.now()
const c = await runCampaign(mutatedRequests(n, Number(process.argv[3] ?? 5)), n, (s) => console.log(s.sent, s.findings.length, Math.round(performance.now() - t), s.memory))
const seen = new Set()
for (const f of c.findings) { if (seen.has(f.fault.slice(0,50))) continue; seen.add(f.fault.slice(0,50)); console.log('-----', f.name, f.fault.slice(0, 1500), '\n', JSON.stringify(f.message.toString('latin1').slice(0, 700))) }
console.log({ ...c, findings: c.findings.length })
