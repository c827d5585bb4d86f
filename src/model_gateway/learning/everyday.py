"""Queries in people's own words, made from patterns: what exam questions are not. Data only, written for this purpose.

They carry no labels. A routing model learns from them where its labelled rows end, so that it leaves what people ask
for in their own words to the five features. Always the same list.
"""

from __future__ import annotations

import random

_PLAIN_EN = """Hi|Hello, are you there?|Good morning!|Thanks, that helped|Bye for now|How is it going?|Who are you?|What can you do for me?|Tell me something funny|I am bored, what should I do?|What time should I get up tomorrow?|Remind me what we talked about|Can you help me?|That is wrong, try again|Please continue|Make it shorter|Say that in one sentence|Use simpler words|I feel tired today|Give me a nickname for my cat|Is it going to rain today?|What should I cook tonight?|Which day is it today?|Please speak English|Wish my brother a happy birthday|Correct this sentence: she go to school|Put this into the past tense: we walk home|How do I say thank you in Italian?|Translate to Spanish: the shop is closed|Spell the word rhythm|Name a fruit that is red|What is 12 plus 30?|Turn this into a list: eggs, milk, bread|Rewrite this politely: send me the file now|Capitalise: new york city|Convert 3 gallons to litres|Change 40 Fahrenheit into Celsius|How many metres are in a mile?|List two animals that can fly|What is the symbol for silver?|Who wrote Hamlet?|Fix the typos: teh dog runned fast|Reply to my aunt that I will come on Sunday|My flight was late and the hotel lost my booking, so I slept in the lobby. What do I say to them?|We had guests all weekend and cooked for twelve people, then the dishwasher broke. Suggest an easy dinner for today|How do I rename a file in bash?|Show me a for loop in JavaScript|What does git status do?|Why is my wifi slow?|My back hurts after sitting all day, what can I do?"""

_PLAIN_ZH = """你好|早上好|在吗|谢谢，帮大忙了|再见|你是谁|你能做什么|讲点有趣的事|我好无聊，做点什么好|明天几点起床合适|请继续|短一点|用一句话说|换个简单的说法|今天有点累|给我的猫起个小名|今天会下雨吗|晚饭吃什么好|今天星期几|请说中文|祝我弟弟生日快乐|改一下这句话：他昨天去学校了吗的|“谢谢”用意大利语怎么说|把这句话翻译成英文：商店关门了|12加30等于几|说一种红色的水果|把它们列成清单：鸡蛋、牛奶、面包|说得礼貌一点：马上把文件发给我|那是错的，再试一次|帮我一下|现在天气怎么样|外面冷不冷|附近有什么好吃的|推荐一首歌|明天要带伞吗|三斤等于多少克|银的化学符号是什么|《西游记》是谁写的|怎么在命令行里重命名文件|写一个JavaScript循环的例子|为什么我家网速这么慢|坐了一天腰疼怎么办|回复阿姨说我周日到"""

_TOPICS_EN = """solar panels|inflation|photosynthesis|container networking|sleep|the stock market|neural networks|coffee roasting|electric cars|vaccines|black holes|remote work|database indexes|public transport|climate policy|machine translation|urban gardening|credit scores|cloud backups|jet engines|online privacy|blockchain|antibiotics|supply chains|renewable energy|language learning|quantum sensors|water treatment|school meals|message queues|gene therapy|tax reform|bridge construction|music theory|robot vacuum cleaners|cancer screening|data centres|coral reefs|digital identity|distributed tracing|the gold standard|Stoic ethics|the Cold War|convex optimisation|a Kafka pipeline|our payment service|the French labour market|a two-sided marketplace|graph databases|the central limit theorem|a monorepo build|juvenile justice|satellite imagery|protein folding|a Postgres migration|hospital triage|trade agreements|the Silk Road|memory allocators|elliptic curves"""

_TOPICS_ZH = """太阳能板|通货膨胀|光合作用|容器网络|睡眠|股票市场|神经网络|咖啡烘焙|电动汽车|疫苗|黑洞|远程办公|数据库索引|公共交通|气候政策|机器翻译|阳台种菜|信用评分|云端备份|喷气发动机|网络隐私|区块链|抗生素|供应链|可再生能源|语言学习|量子传感器|污水处理|学校午餐|消息队列|基因治疗|税制改革|桥梁施工|乐理|扫地机器人|癌症筛查|数据中心|珊瑚礁|数字身份|分布式追踪|金本位|斯多葛伦理学|冷战|凸优化|支付服务|双边市场|图数据库|中心极限定理|少年司法|卫星影像|蛋白质折叠|医院分诊|贸易协定|丝绸之路|内存分配器|椭圆曲线"""

_ASKS_EN = """What is {}?|Explain {} to me|Explain the basics of {} in plain words|How does {} work?|Give me three facts about {}|Summarise what people should know about {}|Write a short paragraph about {}|Write an e-mail to my boss about {}|What are the pros and cons of {}?|What were the main causes of {}?|Why does {} matter?|Recommend a book about {}|How can I improve {}?|Compare two common approaches to {}|Draft a slide deck outline on {}|Help me prepare a talk on {} for beginners|Write a product description about {}|Tell my daughter, who is six, about {}"""

_ASKS_ZH = """{}是什么？|给我解释一下{}|用通俗的话讲讲{}的基本原理|{}是怎么工作的？|说三条关于{}的常识|总结一下{}的要点|写一小段话介绍{}|给老板写一封关于{}的邮件|{}有哪些优点和缺点？|{}的主要原因有哪些？|为什么{}很重要？|推荐一本关于{}的书|怎样改进{}？|比较两种常见的{}方案|列一个关于{}的演讲提纲|帮我准备一次面向新手的{}分享|写一段{}的产品介绍|讲给六岁的女儿听：{}"""

_TASKS_EN = """Give a detailed analysis of|Analyse|Critically evaluate|Critically review the evidence on|Design a system for|Design a plan to introduce|Develop a strategy for|Develop a research proposal about|Write a report on|Write a proof about|Prove the main theorem behind|Derive the equations of|Propose an architecture for|Refactor our code for|Review this design for|Diagnose the failures of|Investigate why we lose money with|Construct a model of|Model and simulate|Argue for and against|Assess the consequences of|Optimise|Compare and contrast three schools of thought on|Formulate a policy for|Show that there is a limit to|Plan a migration of|Estimate the cost of|Write a program that monitors|Find every solution to the equations of, and prove that none is missing, for|Prove by contradiction a claim on"""

_WITH_EN = """covering history, present practice, risks, ethics and the outlook for ten years|with goals, architecture, costs, risks and a timetable|and discuss which assumptions fail in practice|including the trade-offs and a recommendation|with an executive summary, methods, findings and limits|with hypotheses, methods and a budget|and explain what follows for small companies|step by step, and justify each step|considering consistency, latency and failure modes|with citations of the main positions and your own view|and give code with tests|under the constraint that we have two engineers and six weeks|although we already tried caching and retries|and whether the usual account holds"""

_TASKS_ZH = """请详细分析|系统地评估|批判性地评述|设计一个方案来推进|设计一套系统，用于|为一家中型公司制定战略：|撰写一份研究计划，主题是|撰写一份报告，主题是|证明一个定理，它关于|推导出描述它的方程：|提出一种架构，支持|重构我们的代码：|诊断故障原因：|论证赞成与反对的理由：|建立一个模型来模拟|优化|比较三种学说对它的看法：|起草一项政策，关于|评估其后果：|编写一个程序来监控|求出方程的所有解并证明没有遗漏，对象是"""

_WITH_ZH = """包括历史、现状、风险、伦理问题以及未来十年的发展趋势|说明目标、架构、成本、风险和时间表|并讨论哪些假设在实践中不成立|给出权衡与建议|包含摘要、方法、发现、局限和建议|说明假设、方法和预算|逐步推理并说明每一步的理由|考虑一致性、延迟和故障模式|引用主要观点并给出你自己的判断|给出代码和测试|前提是我们只有两名工程师和六周时间"""


def everyday_queries() -> list[str]:
    """About 4,800, half English and half Chinese, from greetings to tasks of several parts."""
    chance = random.Random(1)  # noqa: S311 (a mixture of patterns, no secret)
    queries: list[str] = []
    for plain, asks, topics, tasks, withs, task in (
        (_PLAIN_EN, _ASKS_EN, _TOPICS_EN, _TASKS_EN, _WITH_EN, "{} {}{} {}."),
        (_PLAIN_ZH, _ASKS_ZH, _TOPICS_ZH, _TASKS_ZH, _WITH_ZH, "{}{}{}{}。"),
    ):
        names, conditions = topics.split("|"), withs.split("|")
        queries.extend(plain.split("|"))
        queries.extend(ask.format(topic) for ask in asks.split("|") for topic in names)
        comma = "," if task.startswith("{} ") else "，"
        for verb in tasks.split("|"):
            for topic in chance.sample(names, 40):
                queries.append(task.format(verb, topic, comma, chance.choice(conditions)))
                if chance.random() < 0.3:
                    queries.append(task.format(verb, topic, "", "").rstrip(" .。") + ("." if comma == "," else "。"))
    return queries
