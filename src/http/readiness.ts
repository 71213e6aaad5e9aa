/** Whether requests can be answered now; read by /health/ready and by every limited route. */
export interface Readiness {
  state: 'starting' | 'ready' | 'stopping'
  /** What is going on, for the one who asks why it is not ready. */
  detail: string
}
