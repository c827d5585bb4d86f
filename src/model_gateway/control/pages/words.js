// Everything that the page says, in both languages, and how it writes numbers, money and times.

const en = {
  "nav.overview": "Overview", "nav.requests": "Requests", "nav.explain": "Try a query", "nav.costs": "Costs",
  "nav.language": "中文", "nav.signOut": "Sign out", "nav.sections": "Sections",
  "login.title": "Admin token", "login.enter": "Open the dashboard",
  "login.hint": "It is server.admin_token, or the file admin.token beside the ledger: `cat data/admin.token`. It stays in this tab only.",
  "login.wrong": "This token is not the right one.", "login.empty": "Type the token first.",
  "error.unreachable": "The gateway does not answer.", "error.refused": "Refused",
  "error.noLedger": "The dashboard needs the ledger: set ledger.enabled to true.",
  nothing: "Nothing yet.", details: "Details", none: "none", utc: "UTC",
  "status.healthy": "healthy", "status.degraded": "degraded", "status.unhealthy": "unhealthy",
  "status.online": "online", "status.offline": "offline", "status.draining": "draining",
  "status.ok": "answered", "status.cancelled": "cancelled", "status.interrupted": "interrupted",
  "status.invalid_request": "invalid request", "status.unsafe_prompt": "unsafe prompt", "status.unauthenticated": "unknown key",
  "status.permission_denied": "not allowed", "status.unknown_model": "unknown model", "status.unknown_request": "unknown request",
  "status.unknown_path": "unknown path", "status.rate_limited": "rate limited", "status.overloaded": "overloaded",
  "status.cost_limit_exceeded": "over budget", "status.assessment_failed": "not judged", "status.deadline_exceeded": "too late",
  "status.model_unavailable": "no model", "status.internal": "internal fault", "status.upstream_connect": "provider not reached",
  "status.upstream_timeout": "provider too slow", "status.upstream_protocol": "provider's reply is no good",
  "status.upstream_status": "provider's error", "status.stream_broken": "stream broken",
  "state.settled": "as the provider counted", "state.estimated": "as estimated", "state.absorbed": "nothing to charge",
  "state.refused": "never begun", "reason.asks": "score {score} asks for {tier}",
  "tier.local": "local", "tier.hybrid": "hybrid", "tier.remote": "remote",
  "overview.updated": "Updated {time} · version {version} · up {uptime} · {workers}",
  "overview.workers.1": "1 process", "overview.workers": "{n} processes",
  "overview.problems": "Needs attention", "overview.alerts": "Alerts",
  "alert.error_rate": "Too many requests fail.", "alert.latency": "Answers take too long.",
  "overview.savedTitle": "Saved this month", "overview.spent": "spent", "overview.byRouting": "saved by routing",
  "overview.byCache": "saved by the cache",
  "overview.strongest": "The strongest model alone would have cost {usd}.", "overview.share": "{share} less",
  "overview.dearer": "That is {usd} more than the strongest model alone would have cost.",
  "overview.noneYet": "No request has cost anything this month.",
  "overview.today": "Today", "overview.requests": "Requests", "overview.failed": "{n} failed", "overview.refused": "{n} refused or cancelled", "overview.refusedOnes": "refused or cancelled",
  "overview.allAnswered": "all answered", "overview.cost": "Cost", "overview.saved": "Saved",
  "overview.savedNote": "routing {routing} · cache {cache}", "overview.cacheHits": "{n} from the cache",
  "overview.tokens": "Tokens", "overview.tokensNote": "{input} in · {output} out",
  "overview.latency": "Latency", "overview.latencyNote": "p95 {p95} · p99 {p99}",
  "overview.firstToken": "first token {p50}", "overview.median": "median of the newest {n}",
  "overview.hours": "Requests in the last 24 hours", "overview.hourBar": "{time}: {n}, of which {failed} failed and {refused} were refused or cancelled",
  "overview.answeredOnes": "answered", "overview.failedOnes": "failed", "overview.outcomes": "Outcomes today",
  "overview.tiers": "Tiers this month", "overview.tierNote": "{n} requests · {usd}", "overview.noTier": "no tier",
  "overview.noTierNote": "refused before routing, or answered from the cache",
  "overview.providers": "Providers", "provider.name": "Provider", "provider.status": "State", "provider.calls": "Calls now",
  "provider.resting": "Breaker", "provider.closed": "closed", "provider.open": "open: {models}",
  "overview.budgets": "Budgets", "budget.of": "{spent} of {limit}", "budget.held": "{usd} held", "budget.left": "{usd} left",
  "budget.none": "No budget has been used yet.",
  "requests.title": "Newest requests", "requests.all": "all", "requests.failed": "not answered only",
  "requests.refresh": "Refresh", "requests.older": "Older ones", "requests.time": "Time", "requests.key": "Key",
  "requests.model": "Asked → answered by", "requests.tier": "Tier", "requests.score": "Score", "requests.cost": "Cost",
  "requests.duration": "Took", "requests.status": "Outcome", "requests.noKey": "no key", "requests.cached": "cache",
  "requests.repeated": "repeated", "requests.stream": "streamed", "requests.id": "Request", "requests.why": "Why this tier",
  "requests.asked": "Score asks for", "requests.tokens": "Tokens", "requests.saved": "Saved",
  "requests.tries": "Attempts", "requests.error": "Error", "requests.door": "Door", "requests.team": "Team",
  "requests.first": "First token", "requests.estimated": "estimated", "requests.charge": "Charge",
  "requests.neverScored": "never scored", "requests.factors": "What the score is made of", "requests.targets": "Who could answer, in this order",
  "requests.numbers": "Words of the prompt are not kept, only how many there were.",
  "requests.wait": "Looking up how it was decided …", "requests.unknown.cache": "The cache has answered: it was not judged this time.",
  "requests.unknown.not_judged": "It was refused before it was judged.",
  "requests.unknown.copy": "A mirrored copy: the request that it was made from says why.",
  "requests.unknown.gone": "How it was decided is no longer kept: each process remembers its newest 1,000 requests since the last start or change of the configuration. The score stays in the ledger.",
  "explain.title": "How would this be routed?", "explain.note": "Nothing is sent to a provider, and nothing is recorded.",
  "explain.prompt": "Prompt", "explain.model": "Model", "explain.maxTokens": "Most tokens of the answer",
  "explain.budget": "Budget in USD", "explain.go": "Explain", "explain.examples": "Examples:",
  "explain.score": "Score", "explain.scoreNote": "the probability that the weak tier fails",
  "explain.tier": "Tier", "explain.asksFor": "the score asks for {tier}", "explain.price": "Estimated price",
  "explain.priceNote": "{input} tokens in, at most {output} out", "explain.factors": "What the score is made of",
  "explain.factorsNote": "The contributions add up to the score.", "explain.targets": "Who would be tried, in this order",
  "explain.reason": "Reason", "explain.abstained": "Abstained", "explain.refused": "Nobody would answer: {why}",
  "explain.gain": "Expected gain of the strong tier", "explain.cascade": "Cascade",
  "explain.cascadeNote": "{name}: a weaker model is asked first, and its answer checked",
  "explain.example1": "What is the weather like today?",
  "explain.example2": "Explain the basic principles of quantum computing",
  "explain.example3": "Analyse in detail how AI changes medicine: 1) imaging 2) drug discovery 3) ethics and privacy; compare the EU with the US and give an outlook.",
  "factor.domain_knowledge": "special knowledge", "factor.multi_part_question": "several parts",
  "factor.vocabulary_diversity": "vocabulary", "factor.length": "length", "factor.grammar_complexity": "grammar",
  "factor.similar_queries": "similar queries", "factor.structure": "structure", "factor.wording": "wording",
  "factor.around_the_words": "what comes with it", "factor.abstained": "abstained",
  "factor.embedding": "embedding",
  "costs.title": "Costs", "costs.by": "By", "costs.span": "Span", "costs.day": "day", "costs.key": "key",
  "costs.model": "model", "costs.provider": "provider", "costs.team": "team", "costs.tier": "tier",
  "costs.days": "{n} days", "costs.month": "this month", "costs.download": "Download CSV", "costs.requests": "Requests",
  "costs.cost": "Cost", "costs.strongest": "Strongest alone", "costs.routing": "Saved by routing",
  "costs.cache": "Saved by cache", "costs.tokens": "Tokens", "costs.total": "Total", "costs.unnamed": "(none)",
};

const zh = {
  "nav.overview": "总览", "nav.requests": "请求", "nav.explain": "试一试", "nav.costs": "费用",
  "nav.language": "English", "nav.signOut": "退出", "nav.sections": "栏目",
  "login.title": "管理令牌", "login.enter": "打开控制台",
  "login.hint": "即 server.admin_token，或账本旁的 admin.token 文件：`cat data/admin.token`。它只保存在本标签页中。",
  "login.wrong": "令牌不正确。", "login.empty": "请先输入令牌。",
  "error.unreachable": "网关没有响应。", "error.refused": "被拒绝",
  "error.noLedger": "控制台需要账本：请把 ledger.enabled 设为 true。",
  nothing: "暂无数据。", details: "详情", none: "无", utc: "UTC",
  "status.healthy": "正常", "status.degraded": "降级", "status.unhealthy": "不可用",
  "status.online": "在线", "status.offline": "离线", "status.draining": "排空中",
  "status.ok": "已回答", "status.cancelled": "已取消", "status.interrupted": "被中断",
  "status.invalid_request": "请求无效", "status.unsafe_prompt": "提示词不安全", "status.unauthenticated": "密钥未知",
  "status.permission_denied": "无权限", "status.unknown_model": "模型不存在", "status.unknown_request": "请求不存在",
  "status.unknown_path": "路径不存在", "status.rate_limited": "超出限额", "status.overloaded": "过载",
  "status.cost_limit_exceeded": "超出预算", "status.assessment_failed": "评分失败", "status.deadline_exceeded": "超时",
  "status.model_unavailable": "无可用模型", "status.internal": "内部故障", "status.upstream_connect": "连不上提供商",
  "status.upstream_timeout": "提供商超时", "status.upstream_protocol": "提供商回复无效",
  "status.upstream_status": "提供商报错", "status.stream_broken": "流中断",
  "state.settled": "按提供商的计数", "state.estimated": "按估算", "state.absorbed": "无需计费",
  "state.refused": "未开始", "reason.asks": "分数 {score}，要求{tier}层级",
  "tier.local": "本地", "tier.hybrid": "混合", "tier.remote": "远程",
  "overview.updated": "{time} 更新 · 版本 {version} · 已运行 {uptime} · {workers}",
  "overview.workers.1": "1 个进程", "overview.workers": "{n} 个进程",
  "overview.problems": "需要处理", "overview.alerts": "告警",
  "alert.error_rate": "失败的请求过多。", "alert.latency": "回答过慢。",
  "overview.savedTitle": "本月节省", "overview.spent": "已花费", "overview.byRouting": "路由节省",
  "overview.byCache": "缓存节省",
  "overview.strongest": "全部交给最强模型要花 {usd}。", "overview.share": "少花 {share}",
  "overview.dearer": "比全部交给最强模型多花了 {usd}。",
  "overview.noneYet": "本月还没有产生费用。",
  "overview.today": "今天", "overview.requests": "请求数", "overview.failed": "{n} 个失败", "overview.refused": "{n} 个被拒绝或取消", "overview.refusedOnes": "被拒绝或取消",
  "overview.allAnswered": "全部已回答", "overview.cost": "费用", "overview.saved": "节省",
  "overview.savedNote": "路由 {routing} · 缓存 {cache}", "overview.cacheHits": "{n} 个来自缓存",
  "overview.tokens": "Token 数", "overview.tokensNote": "输入 {input} · 输出 {output}",
  "overview.latency": "耗时", "overview.latencyNote": "p95 {p95} · p99 {p99}",
  "overview.firstToken": "首个 token {p50}", "overview.median": "最近 {n} 个的中位数",
  "overview.hours": "最近 24 小时的请求", "overview.hourBar": "{time}：{n} 个，其中 {failed} 个失败，{refused} 个被拒绝或取消",
  "overview.answeredOnes": "已回答", "overview.failedOnes": "失败", "overview.outcomes": "今天的结果",
  "overview.tiers": "本月各层级", "overview.tierNote": "{n} 个请求 · {usd}", "overview.noTier": "无层级",
  "overview.noTierNote": "路由之前被拒绝，或由缓存回答",
  "overview.providers": "提供商", "provider.name": "提供商", "provider.status": "状态", "provider.calls": "进行中的调用",
  "provider.resting": "熔断器", "provider.closed": "闭合", "provider.open": "断开：{models}",
  "overview.budgets": "预算", "budget.of": "{spent} / {limit}", "budget.held": "预留 {usd}", "budget.left": "剩余 {usd}",
  "budget.none": "还没有用到任何预算。",
  "requests.title": "最新请求", "requests.all": "全部", "requests.failed": "仅未回答的",
  "requests.refresh": "刷新", "requests.older": "更早的", "requests.time": "时间", "requests.key": "密钥",
  "requests.model": "请求 → 由谁回答", "requests.tier": "层级", "requests.score": "分数", "requests.cost": "费用",
  "requests.duration": "耗时", "requests.status": "结果", "requests.noKey": "无密钥", "requests.cached": "缓存",
  "requests.repeated": "重复", "requests.stream": "流式", "requests.id": "请求号", "requests.why": "为何是这个层级",
  "requests.asked": "分数要求的层级", "requests.tokens": "Token 数", "requests.saved": "节省",
  "requests.tries": "各次尝试", "requests.error": "错误", "requests.door": "入口", "requests.team": "团队",
  "requests.first": "首个 token", "requests.estimated": "估算", "requests.charge": "计费",
  "requests.neverScored": "未评分", "requests.factors": "分数的构成", "requests.targets": "依次可由谁回答",
  "requests.numbers": "不保留提示词中的词，只保留个数。",
  "requests.wait": "正在查询判断的经过……", "requests.unknown.cache": "由缓存回答：这一次没有评分。",
  "requests.unknown.not_judged": "在评分之前已被拒绝。",
  "requests.unknown.copy": "这是镜像的副本：原因见其原请求。",
  "requests.unknown.gone": "判断的经过已不再保留：每个进程只记得自上次启动或更改配置以来最新的 1,000 个请求。分数仍在账本中。",
  "explain.title": "这个问题会怎样路由？", "explain.note": "不会发给任何提供商，也不留记录。",
  "explain.prompt": "提示词", "explain.model": "模型", "explain.maxTokens": "回答的 token 上限",
  "explain.budget": "预算（美元）", "explain.go": "解释", "explain.examples": "示例：",
  "explain.score": "分数", "explain.scoreNote": "弱层答不好的概率",
  "explain.tier": "层级", "explain.asksFor": "分数要求 {tier}", "explain.price": "预计费用",
  "explain.priceNote": "输入 {input} 个 token，输出至多 {output} 个", "explain.factors": "分数的构成",
  "explain.factorsNote": "各项贡献相加即为分数。", "explain.targets": "依次尝试谁",
  "explain.reason": "理由", "explain.abstained": "弃权", "explain.refused": "没有谁会回答：{why}",
  "explain.gain": "强层的预期收益", "explain.cascade": "级联",
  "explain.cascadeNote": "{name}：先问较弱的模型，并检查它的回答",
  "explain.example1": "今天天气怎么样？",
  "explain.example2": "解释一下量子计算的基本原理",
  "explain.example3": "请详细分析人工智能在医疗领域的应用：一、影像诊断；二、药物研发；三、伦理与隐私；比较各国监管，并展望未来十年。",
  "factor.domain_knowledge": "专业知识", "factor.multi_part_question": "多个部分",
  "factor.vocabulary_diversity": "词汇多样性", "factor.length": "长度", "factor.grammar_complexity": "语法复杂度",
  "factor.similar_queries": "相似问题", "factor.structure": "结构", "factor.wording": "措辞",
  "factor.around_the_words": "附带的内容", "factor.abstained": "弃权",
  "factor.embedding": "向量",
  "costs.title": "费用", "costs.by": "分组", "costs.span": "时间范围", "costs.day": "日期", "costs.key": "密钥",
  "costs.model": "模型", "costs.provider": "提供商", "costs.team": "团队", "costs.tier": "层级",
  "costs.days": "{n} 天", "costs.month": "本月", "costs.download": "下载 CSV", "costs.requests": "请求数",
  "costs.cost": "费用", "costs.strongest": "全用最强模型", "costs.routing": "路由节省",
  "costs.cache": "缓存节省", "costs.tokens": "Token 数", "costs.total": "合计", "costs.unnamed": "（无）",
};

export const WORDS = { en, zh };
const KEPT = "model-gateway.language";

export let language = "en";

export function chooseLanguage() {
  const wanted = localStorage.getItem(KEPT) ?? navigator.languages?.[0] ?? navigator.language ?? "en";
  use(wanted.toLowerCase().startsWith("zh") ? "zh" : "en");
}

export function switchLanguage() {
  use(language === "en" ? "zh" : "en");
  localStorage.setItem(KEPT, language);
}

function use(name) {
  language = name;
  document.documentElement.lang = name === "zh" ? "zh-CN" : "en";
}

export function t(key, values = {}) {
  const text = WORDS[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export function told(key, otherwise) {
  return WORDS[language][key] ?? otherwise;
}

const locale = () => (language === "zh" ? "zh-CN" : "en-US");

export function count(number) {
  const style = Math.abs(number) >= 100_000 ? { notation: "compact", maximumFractionDigits: 1 } : {};
  return new Intl.NumberFormat(locale(), style).format(number);
}

// US dollars: cents where there are dollars, else enough digits to tell amounts apart.
export function usd(amount) {
  const number = Number(amount);
  const size = Math.abs(number);
  const digits = size === 0 ? 2 : size >= 1 ? 2 : size >= 0.01 ? 4 : 6;
  const written = new Intl.NumberFormat("en-US", { minimumFractionDigits: Math.min(digits, 2), maximumFractionDigits: digits });
  if (size > 0 && size < 0.000001) return number < 0 ? "−<$0.000001" : "<$0.000001";
  return `${number < 0 ? "−" : ""}$${written.format(size)}`;
}

export function percent(share) {
  return new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 1 }).format(share);
}

export function span(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
}

export function time(epoch, style = { hour: "2-digit", minute: "2-digit", second: "2-digit" }) {
  return new Intl.DateTimeFormat(locale(), { hour12: false, ...style }).format(new Date(epoch * 1000));
}

export function dateTime(epoch) {
  const today = new Date().toDateString() === new Date(epoch * 1000).toDateString();
  return today ? time(epoch) : time(epoch, { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" });
}

export function uptime(seconds) {
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}
