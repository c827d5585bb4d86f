"""Queries in people's own words, made from patterns: what exam questions are not. Data only, written for this purpose.

They carry no labels. A routing model learns from them where its labelled rows end, so that it leaves what people ask
for in their own words to the five features. Always the same list.
"""

from __future__ import annotations

_PLAIN_EN = """Hi|Hello, are you there?|Good morning!|Thanks, that helped|Bye for now|How is it going?|Who are you?|
What can you do for me?|Tell me something funny|I am bored, what should I do?|What time should I get up tomorrow?|
Remind me what we talked about|Can you help me?|That is wrong, try again|Please continue|Make it shorter|
Say that in one sentence|Use simpler words|I feel tired today|Give me a nickname for my cat|Is it going to rain today?|
What should I cook tonight?|Which day is it today?|Please speak English|Wish my brother a happy birthday|
Correct this sentence: she go to school|Put this into the past tense: we walk home|How do I say thank you in Italian?|
Translate to Spanish: the shop is closed|Spell the word rhythm|Name a fruit that is red|What is 12 plus 30?|
Turn this into a list: eggs, milk, bread|Rewrite this politely: send me the file now|Capitalise: new york city""".replace(
    "\n", ""
)

_PLAIN_ZH = """你好|早上好|在吗|谢谢，帮大忙了|再见|你是谁|你能做什么|讲点有趣的事|我好无聊，做点什么好|明天几点起床合适|请继续|
短一点|用一句话说|换个简单的说法|今天有点累|给我的猫起个小名|今天会下雨吗|晚饭吃什么好|今天星期几|请说中文|祝我弟弟生日快乐|
改一下这句话：他昨天去学校了吗的|“谢谢”用意大利语怎么说|把这句话翻译成英文：商店关门了|12加30等于几|说一种红色的水果|
把它们列成清单：鸡蛋、牛奶、面包|说得礼貌一点：马上把文件发给我|那是错的，再试一次|帮我一下|现在天气怎么样|外面冷不冷|
附近有什么好吃的|推荐一首歌|明天要带伞吗""".replace("\n", "")

_TOPICS_EN = """solar panels|inflation|photosynthesis|container networking|sleep|the stock market|neural networks|
coffee roasting|electric cars|vaccines|black holes|remote work|database indexes|public transport|climate policy|
machine translation|urban gardening|credit scores|cloud backups|jet engines|online privacy|blockchain|antibiotics|
supply chains|renewable energy|language learning|quantum sensors|water treatment|school meals|message queues|
gene therapy|tax reform|bridge construction|music theory|robot vacuum cleaners|cancer screening|data centres|
coral reefs|digital identity|distributed tracing""".replace("\n", "")

_TOPICS_ZH = """太阳能板|通货膨胀|光合作用|容器网络|睡眠|股票市场|神经网络|咖啡烘焙|电动汽车|疫苗|黑洞|远程办公|数据库索引|公共交通|
气候政策|机器翻译|阳台种菜|信用评分|云端备份|喷气发动机|网络隐私|区块链|抗生素|供应链|可再生能源|语言学习|量子传感器|污水处理|
学校午餐|消息队列|基因治疗|税制改革|桥梁施工|乐理|扫地机器人|癌症筛查|数据中心|珊瑚礁|数字身份|分布式追踪""".replace(
    "\n", ""
)

_ASKS_EN = """What is {}?|Explain {} to me|Explain the basics of {} in plain words|How does {} work?|
Give me three facts about {}|Summarise what people should know about {}|Write a short paragraph about {}|
Write an e-mail to my boss about {}|What are the pros and cons of {}?|Why does {} matter?|Recommend a book about {}|
Compare two common approaches to {}|Draft a slide deck outline on {}|Help me prepare a talk on {} for beginners|
Write a product description about {}|Tell my daughter, who is six, about {}|
Give a detailed analysis of {}, covering history, present practice, risks, ethics and the outlook for ten years|
Design a plan to introduce {} in a mid-sized company: goals, architecture, costs, risks and a timetable|
Critically review the evidence on {} and argue which policy follows from it|
Write a report on {} with an executive summary, methods, findings, limits and recommendations|
Develop a research proposal about {} with hypotheses, methods and a budget""".replace("\n", "")

_ASKS_ZH = """{}是什么？|给我解释一下{}|用通俗的话讲讲{}的基本原理|{}是怎么工作的？|说三条关于{}的常识|总结一下{}的要点|
写一小段话介绍{}|给老板写一封关于{}的邮件|{}有哪些优点和缺点？|为什么{}很重要？|推荐一本关于{}的书|比较两种常见的{}方案|
列一个关于{}的演讲提纲|帮我准备一次面向新手的{}分享|写一段{}的产品介绍|讲给六岁的女儿听：{}|
请详细分析{}的历史、现状、风险、伦理问题以及未来十年的发展趋势|为一家中型公司设计引入{}的方案，包括目标、架构、成本、风险和时间表|
批判性地评述关于{}的研究证据，并论证应当采取什么政策|撰写一份关于{}的报告，包含摘要、方法、发现、局限和建议|
制定一份关于{}的研究计划，说明假设、方法和预算""".replace("\n", "")


def everyday_queries() -> list[str]:
    """About 1,700, half English and half Chinese."""
    queries: list[str] = []
    for plain, asks, topics in ((_PLAIN_EN, _ASKS_EN, _TOPICS_EN), (_PLAIN_ZH, _ASKS_ZH, _TOPICS_ZH)):
        queries.extend(plain.split("|"))
        queries.extend(ask.format(topic) for ask in asks.split("|") for topic in topics.split("|"))
    return queries
