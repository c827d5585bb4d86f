// What the gateway says in English, of a route and of a factor, in the reader's language: the one table of such texts.
// Each line is a piece of a sentence and what it becomes. What no line knows is shown as it came.

import { language, t } from "./words.js";

const tier = (name) => t(`tier.${name}`);
const TIER = "(local|hybrid|remote)";

const REASONS = [
  [/^canary; /, () => "金丝雀；"],
  [/^score ([\d.]+); cascade (.+?), then ([^:]+?)(?=: |$)/, (_, score, first, then) => `分数 ${score}；级联：先 ${first}，再 ${then}`],
  [/: (kept|escalated|skipped); reason=(\w+)/, (_, outcome, why) => `：${OUTCOMES[outcome]}（${CAUSES[why] ?? why}）`],
  [/; failed=(\w+)/, (_, what) => `；未通过：${CAUSES[what] ?? what}`],
  [/, mean logprob (-?[\d.]+)/, (_, mean) => `，平均对数概率 ${mean}`],
  [new RegExp(`^((?:金丝雀；)?)score ([\\d.]+) of the turn it follows asks for ${TIER}`), (_, before, score, name) => `${before}所接续的那一轮分数 ${score}，要求${tier(name)}层级`],
  [new RegExp(`^((?:金丝雀；)?)score ([\\d.]+) asks for ${TIER}`), (_, before, score, name) => before + t("reason.asks", { score, tier: tier(name) })],
  [new RegExp(`, kept at ${TIER} by an earlier turn of this conversation \\(([\\d.]+)\\)`), (_, name, score) => `，因本对话较早的一轮（${score}）保持${tier(name)}层级`],
  [new RegExp(`, kept at ${TIER} by its session`), (_, name) => `，因会话保持${tier(name)}层级`],
  [new RegExp(`, pinned to ${TIER} by this conversation's first turn`), (_, name) => `，按本对话的第一轮固定在${tier(name)}层级`],
  [/, (no online provider serves it|none that the key may use serves it|its providers are at their limit|its estimate is over the budget|its estimate is over maxCostPerQuery|none of its models can do what is needed)(?=; )/, (_, why) => `，${HINDRANCES[why]}`],
  [new RegExp(`; served by ${TIER}`), (_, name) => `；由${tier(name)}层级回答`],
  [/; preferred provider (.+?) cannot serve this now/, (_, name) => `；首选提供商 ${name} 现在无法回答`],
  [new RegExp(`^((?:金丝雀；)?)preferred provider, which serves ${TIER}`), (_, before, name) => `${before}首选提供商，它属于${tier(name)}层级`],
  [/^((?:金丝雀；)?)preferred provider(?=;|$)/, "$1首选提供商"],
  [/^((?:金丝雀；)?)model asked for by name/, "$1按名称指定了模型"],
  [/^((?:金丝雀；)?)the cheapest was asked for/, "$1要求最便宜的"],
  [/^((?:金丝雀；)?)the fastest was asked for/, "$1要求最快的"],
  [/^((?:金丝雀；)?)the best was asked for/, "$1要求最好的"],
  [/^((?:金丝雀；)?)any model that embeds/, "$1任一嵌入模型"],
  [/; stays with ([^,;]+), whose cached input saves (\$[\d.]+)/, "；留在 $1，其缓存的输入可省 $2"],
  [/; stays with ([^,;]+)/, "；留在 $1"],
  [/; ([^;；]+) answered before$/, "；上一轮由 $1 回答"],
];

const HINDRANCES = {
  "no online provider serves it": "没有在线的提供商属于它", "none that the key may use serves it": "密钥可用的都不属于它",
  "its providers are at their limit": "其提供商都已满", "its estimate is over the budget": "其预计费用超出预算",
  "its estimate is over maxCostPerQuery": "其预计费用超过 maxCostPerQuery",
  "none of its models can do what is needed": "其模型都做不到所需的事",
};
const OUTCOMES = { kept: "采用较弱模型的回答", escalated: "升级到更强的模型", skipped: "未经级联" };
const CAUSES = {
  score: "分数", budget: "预算", timeout: "超时", failed: "调用失败", unavailable: "无可用模型", logprob: "对数概率",
  passed: "通过检查", no_logprobs: "没有对数概率", length: "被长度截断", long: "过长", filtered: "被过滤", refusal: "拒答",
  empty: "空", repetition: "重复", short: "过短", json: "不是 JSON", schema: "不合模式", pattern: "不合样式",
  unable: "做不到", busy: "繁忙", not_allowed: "不许使用",
};

const DETAILS = [
  [/^empty query$/, "没有内容"],
  [/^about (\d+) words$/, "约 $1 个词"],
  [/^(\d+) different words$/, "$1 个不同的词"],
  [/^(\d+) clause words, (\d+) words a sentence$/, "$1 个连接从句的词，每句 $2 个词"],
  [/^no special terms$/, "没有专业术语"],
  [/^(\d+) special terms/, "$1 个专业术语"],
  [/^one plain request$/, "一个简单的请求"],
  [/^tasks: none named/, "没有点名的任务"],
  [/^tasks: /, "任务："],
  [/^(\d+) task words/, "$1 个任务词"],
  [/; (\d+) parts$/, "；共 $1 个部分"],
  [/^(\d+%) of labelled queries are failed at$/, "在有标注的问题中，弱层答错 $1"],
  [/^(\d+) characters, (\d+) times more than anything learned from/, "$1 个字符，是学过的最长文本的 $2 倍以上"],
  [/^hardly a word in a script that was learned from/, "几乎没有学过的文字"],
  [/^(\d+%) of its words are unlike anything learned from/, "$1 的词与学过的都不相似"],
  [/; the safe tier answers$/, "；由安全层级回答"],
  [/^tools, their results, or material$/, "工具、工具结果或附带材料"],
  [/(^|, )tools of (\d+) bytes/, "$1工具定义 $2 字节"],
  [/(^|, )(\d+) results of tools before/, "$1此前 $2 个工具结果"],
  [/(^|, )(\d+) files/, "$1$2 个文件"],
  [/(^|, )(\d+) characters of material/, "$1材料 $2 个字符"],
];

const FIELDS = {
  biology: "生物", chemistry: "化学", code: "代码", computing: "计算机", engineering: "工程", finance: "金融", history: "历史",
  law: "法律", literature: "文学", mathematics: "数学", medicine: "医学", philosophy: "哲学", physics: "物理", society: "社会",
};

const MEASURES = {
  characters: "字符数", words: "词数", sentences: "句数", lines: "行数", "words a sentence": "每句词数", "word length": "词长",
  numbers: "数字", "numbers a word": "数字占比", questions: "问句", commas: "逗号", brackets: "括号", quotations: "引号",
  mathematics: "数学符号", blanks: "填空", options: "选项", Chinese: "汉字", vocabulary: "词汇", repetition: "重复",
  relations: "数量关系", connectives: "连接词", negations: "否定",
};

const through = (table, text) => table.reduce((said, [piece, other]) => said.replace(piece, other), text);

// Why a route was chosen.
export function reason(text) {
  return language === "zh" ? through(REASONS, text ?? "") : text;
}

// What counted for a factor. Words of the query stay what they are.
export function detail(name, text) {
  if (language !== "zh") return text;
  if (name === "wording") return text;
  if (name === "structure") return text.replace(/(^|, )([^,+-]+) (?=[+-])/g, (_, before, measure) => `${before}${MEASURES[measure] ?? measure} `).replaceAll(", ", "、");
  if (name !== "domain_knowledge") return through(DETAILS, text);
  const [fields, ...terms] = text.split(": ");
  const named = through(DETAILS, fields).split(", ").map((field) => FIELDS[field] ?? field).join("、");
  return terms.length ? `${named}：${terms.join(": ")}` : named;
}
